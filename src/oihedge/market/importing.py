"""Files of a user's own to rows of the lake, as an import spec says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl

from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import conform, table
from oihedge.market.files import Tell, instants, numbers, once, read_file, texts
from oihedge.market.rows import with_intervals
from oihedge.market.spec import VALUES, FromColumn, ImportSpec, load_spec, resolve_file

__all__ = ["ImportSpec", "load_spec", "read_import"]

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
Prices = Callable[[str, str], pl.DataFrame]
"""(venue, symbol) to bars (ts, open), one row per ts."""
_SYMBOL = r"^[A-Z0-9]+/[A-Z0-9]+(:[A-Z0-9]+)?$"
_NAMES = {"venue": r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$", "symbol": _SYMBOL, "asset": r"^[A-Z0-9]{1,40}$"}
_EXAMPLES = {"venue": "an id like binanceusdm", "symbol": "BTC/USDT:USDT or BTC/USDT", "asset": "BTC"}
_FEW = 3
_DEFAULT = {"spot": "{asset}/USDT"}


def read_import(
    spec: ImportSpec,
    folder: Path | None = None,
    prices: Prices | None = None,
    tell: Tell | None = None,
) -> tuple[str, pl.DataFrame]:
    """Read what `spec` describes.

    Args:
        spec: from `load_spec`.
        folder: where its relative file names start; the spec's own folder comes second.
        prices: gives the bars that `spec.price` names; asked only then.
        tell: receives one line where rows had to be left out.

    Returns:
        The lake table's name and its rows with available_at, sorted by key, one row per key (the earliest within a grid
        step, so that flooring never brings a later value forward; others that differ from it are told).

    Raises:
        ConfigError: if the spec does not fit the file (stamps without a zone, no prices to divide by).
        DataError: for a file that is not there or unreadable, a column, asset or symbol that is not in it, stamps that
            are mixed or off the grid, text where a number belongs, or a span without rows; file and column are named.
    """
    sources = list(spec.files.items()) if spec.files else [(None, spec.file or "")]
    tell = tell or (lambda _: None)
    parts = [_read_one(spec, resolve_file(name, folder, spec.home), asset, tell) for asset, name in sources]
    rows = pl.concat(parts)
    if rows.is_empty():
        raise DataError(f"{spec.file or next(iter(spec.files.values()))} has no rows in the span that the spec keeps")
    if spec.table == "open_interest":
        rows = _valued(rows, spec, prices, tell)
    elif spec.table == "funding":
        rows = _with_interval(rows, spec)
    if spec.table == "ohlcv":
        rows = rows.with_columns(kind=pl.lit(spec.kind), timeframe=pl.lit(spec.timeframe))
    target = table(spec.table)
    return spec.table, conform(rows, target, stamps=False).sort(target.key)


def _read_one(spec: ImportSpec, path: Path, asset: str | None, tell: Tell) -> pl.DataFrame:
    """Return (venue, symbol, asset, ts, available_at, values...) of one file."""
    raw = _kept(read_file(path, spec), spec, path)
    rows = _identified(raw, spec, path, asset)
    stamp = instants(raw, spec.columns["ts"], path, spec.time_zone)
    at, known = _instants(stamp, spec)
    names = [name for name in (*VALUES[spec.table], "interval_h") if name in spec.columns]
    values = [numbers(raw, spec.columns[name], path).alias(name) for name in names]
    rows = rows.with_columns(at=at, available_at=known + timedelta(seconds=spec.delay_s)).with_columns(values)
    if spec.table == "ohlcv" and "volume" not in names:
        rows = rows.with_columns(volume=pl.lit(None, dtype=pl.Float64))
    rows = _on_grid(rows, spec, path)
    if spec.start is not None:
        rows = rows.filter(pl.col("ts") >= spec.start)
    if spec.end is not None:
        rows = rows.filter(pl.col("ts") < spec.end)
    return once(rows.sort("at"), ("venue", "symbol", "ts"), names, "first", path.name, tell).drop("at")


def _kept(raw: pl.DataFrame, spec: ImportSpec, path: Path) -> pl.DataFrame:
    for column, wanted in spec.where.items():
        have = texts(raw, column, path)
        for value in wanted:
            if not (have == value).any():
                found = ", ".join(str(v) for v in have.unique().sort().head(8))
                raise DataError(f"{path.name} column {column} has no {value!r}", expected=found, do="correct `where`")
        raw = raw.filter(have.is_in(list(wanted)))
    return raw


def _identified(raw: pl.DataFrame, spec: ImportSpec, path: Path, asset: str | None) -> pl.DataFrame:
    venue = _named(raw, spec.venue, "venue", path)
    if isinstance(spec.symbol, FromColumn) or (spec.asset is None and asset is None and isinstance(spec.symbol, str)):
        symbol = _named(raw, spec.symbol, "symbol", path)
        told = spec.asset if spec.asset is not None else asset
        base = symbol.str.split("/").list.first() if told is None else _named(raw, told, "asset", path)
    else:
        base = _named(raw, asset if asset is not None else spec.asset or "", "asset", path)
        symbol = _templated(venue, base, spec, path)
    odd = symbol.filter(~symbol.str.contains(_SYMBOL))
    if len(odd):
        raise DataError(f"{path.name}: {odd[0]!r} is no ccxt symbol", expected="BTC/USDT:USDT or BTC/USDT",
                        do="rename it under symbol.names")  # fmt: skip
    rows = pl.DataFrame({"venue": venue, "symbol": symbol, "asset": base})
    # 1000PEPE/USDT:USDT is PEPE; any other difference would file one coin's rows under another's name.
    named = pl.col("symbol").str.split("/").list.first().str.replace(r"^10+(\D)", "${1}")
    if (mixed := rows.filter(named != pl.col("asset"))).height:
        symbol_, asset_ = mixed["symbol"][0], mixed["asset"][0]
        raise DataError(f"{path.name}: symbol {symbol_} is not of asset {asset_}", do="make the two agree in the spec")
    return rows


def _named(raw: pl.DataFrame, source: str | FromColumn, what: str, path: Path) -> pl.Series:
    if isinstance(source, str):
        return pl.Series(what, [source], dtype=pl.String).new_from_index(0, raw.height)
    named = _renamed(raw, source, what, path)
    odd = named.filter(~named.str.contains(_NAMES[what]))
    if len(odd):
        raise DataError(f"{path.name} column {source.column}: {odd[0][:60]!r} is no {what}", expected=_EXAMPLES[what],
                        do=f"rename it under {what}.names")  # fmt: skip
    return named


def _renamed(raw: pl.DataFrame, source: FromColumn, what: str, path: Path) -> pl.Series:
    values = texts(raw, source.column, path)
    if values.null_count():
        raise DataError(
            f"{path.name} column {source.column} is empty in {values.null_count()} rows, it tells the {what}"
        )
    unused = sorted(set(source.names) - set(values.unique()))
    if unused:
        raise DataError(f"{path.name} column {source.column} has no {what} {unused[0]!r}", do=f"correct {what}.names")
    return values.replace(source.names).alias(what)


def _templated(venue: pl.Series, asset: pl.Series, spec: ImportSpec, path: Path) -> pl.Series:
    default = _DEFAULT.get(spec.kind if spec.table == "ohlcv" else "perp", "{asset}/USDT:USDT")
    template = spec.symbol if spec.symbol is not None else default
    per_venue = template if isinstance(template, dict) else dict.fromkeys(venue.unique(), str(template))
    unknown = sorted(set(venue.unique()) - set(per_venue))
    if unknown:
        raise DataError(f"{path.name}: no symbol is told for venue {unknown[0]!r}", expected=", ".join(per_venue))
    pattern = venue.replace_strict(per_venue, return_dtype=pl.String)
    pair = pl.DataFrame({"pattern": pattern, "asset": asset}).lazy()
    made = pair.select(symbol=pl.col("pattern").str.replace("{asset}", pl.col("asset"), literal=True)).collect()
    return made["symbol"]


def _instants(stamp: pl.Series, spec: ImportSpec) -> tuple[pl.Series, pl.Series]:
    """Return what each row describes (a bar's open, else an instant) and when it was complete."""
    if spec.table == "ohlcv":
        step = HOUR if spec.timeframe == "1h" else MINUTE
        opened = stamp if spec.stamp == "open" else stamp - step
        return opened, opened + step
    instant = stamp + HOUR if spec.stamp == "open" else stamp
    return instant, instant


def _on_grid(rows: pl.DataFrame, spec: ImportSpec, path: Path) -> pl.DataFrame:
    """Floor `at` to `ts`."""
    if spec.grid is None:
        rows = rows.with_columns(ts="at")
    else:
        rows = rows.with_columns(ts=pl.col("at").dt.truncate(spec.grid))
        off = (rows["at"] - rows["ts"]).dt.total_microseconds() / 1e6
        if (off > spec.max_off_grid_s).any():
            row = int(off.arg_max() or 0)
            raise DataError(
                f"{path.name} column {spec.columns['ts']}: {rows['at'][row]} is off the {spec.grid} grid",
                expected=f"at most {spec.max_off_grid_s:.0f} s (max_off_grid_s)",
                got=f"{off[row]:.0f} s",
                do="filter such rows or set grid: null",
            )
    return rows


def _valued(rows: pl.DataFrame, spec: ImportSpec, prices: Prices | None, tell: Tell) -> pl.DataFrame:
    """Return rows with oi_base, oi_usd and unit_source."""
    if spec.price is not None:
        rows = rows.join(
            _opens(rows, spec.price.symbol, spec.price.venue, prices, spec), on=["asset", "ts"], how="left"
        )
    else:
        rows = rows.with_columns(price=pl.lit(None, dtype=pl.Float64))
    of = f"{spec.price.venue} {spec.price.symbol}" if spec.price else ""
    mean = spec.price is not None and spec.price.at == "mean"
    price = f"mean of the opens of {of} at ts - 1 h and ts" if mean else f"open of {of} at ts"
    if spec.unit == "usd":
        unpriced = rows.filter(pl.col("price").is_null())
        rows = rows.filter(pl.col("price").is_not_null())
        if rows.is_empty():
            bars = _of_assets(of, unpriced)
            raise DataError(f"no bar of {bars} opens at any ts of the open interest", do="import these bars first")
        if unpriced.height:
            bars = _of_assets(of, unpriced)
            tell(f"{unpriced.height} rows of open interest in USD left out: no bar of {bars} opens at their ts")
        source = _per_asset(rows, f"USD as sent; coins = USD / {price}, an approximation")
        return rows.with_columns(oi_base=pl.col("oi") / pl.col("price"), oi_usd="oi", unit_source=source)
    coins, sent = _coins(spec)
    told = f"{sent} as sent" + (f"; USD = coins x {price}, an approximation" if spec.price else "")
    rows = rows.with_columns(oi_base=coins, unit_source=_per_asset(rows, told))
    return rows.with_columns(oi_usd=pl.col("oi_base") * pl.col("price"))


def _of_assets(text: str, rows: pl.DataFrame) -> str:
    """Return `text` with the assets of `rows` in its {asset}: each of a few, the first of many."""
    named = [text.replace("{asset}", asset) for asset in rows["asset"].unique().sort()]
    named = list(dict.fromkeys(named))
    return " or ".join(named) if len(named) <= _FEW else f"{named[0]} (nor of {len(named) - 1} more)"


def _per_asset(rows: pl.DataFrame, text: str) -> pl.Series:
    return rows["asset"].replace_strict({a: text.replace("{asset}", a) for a in rows["asset"].unique()})


def _coins(spec: ImportSpec) -> tuple[pl.Expr, str]:
    if spec.contract_size is None:
        return pl.col("oi"), "coins"
    if not isinstance(spec.contract_size, dict):
        return pl.col("oi") * spec.contract_size, f"contracts of {spec.contract_size:g} coins"
    size = pl.col("asset").replace_strict(spec.contract_size, default=None, return_dtype=pl.Float64)
    return pl.col("oi") * size, "contracts"


def _opens(rows: pl.DataFrame, symbol: str, venue: str, prices: Prices | None, spec: ImportSpec) -> pl.DataFrame:
    if prices is None:
        raise ConfigError(f"the spec needs the price table ({venue} {symbol})", do="import the bars first")
    found = []
    for asset in rows["asset"].unique().sort():
        bars = prices(venue, symbol.replace("{asset}", asset)).select("ts", price="open")
        if bars.is_empty() and spec.unit == "usd":
            raise DataError(
                f"there are no bars of {venue} {symbol.replace('{asset}', asset)} to divide by", do="import them first"
            )
        bars = bars.filter(pl.col("price") > 0)
        if spec.price is not None and spec.price.at == "mean":
            before = bars.select(pl.col("ts") + HOUR, before="price")
            bars = bars.join(before, on="ts").select("ts", price=(pl.col("price") + pl.col("before")) / 2)
        found.append(bars.with_columns(asset=pl.lit(asset)))
    return pl.concat(found).unique(["asset", "ts"], keep="last", maintain_order=True)


def _with_interval(rows: pl.DataFrame, spec: ImportSpec) -> pl.DataFrame:
    by: Sequence[str] = ("venue", "symbol")
    if "interval_h" in spec.columns:
        return rows
    if spec.interval_h == "stamps":
        return with_intervals(rows.sort(*by, "ts"), 8.0, by)
    if not isinstance(spec.interval_h, dict):
        return rows.with_columns(interval_h=pl.lit(spec.interval_h, dtype=pl.Float64))
    unknown = sorted(set(rows["venue"].unique()) - set(spec.interval_h))
    if unknown:
        raise ConfigError(f"interval_h has no entry for venue {unknown[0]!r}", expected=", ".join(spec.interval_h))
    hours = pl.col("venue").replace_strict(spec.interval_h, return_dtype=pl.Float64)
    return rows.with_columns(interval_h=hours)
