"""freqtrade's data folders: names, formats, kinds, and every bad file in one clear line."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from fakes.market_settings import PERPS, SPOTS, market

from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import conform, table
from oihedge.market import freqtrade
from oihedge.market.freqtrade import read_freqtrade

T0 = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SETTINGS = market(PERPS[0], SPOTS[0].model_copy(update={"delay_s": 9.0}))
BTC = "futures/BTC_USDT_USDT-1h-futures"


def rows_of(*hours: float, step: timedelta = HOUR, **columns: float) -> list[list[float]]:
    values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0, **columns}
    return [[int((T0 + h * step).timestamp() * 1000), *values.values()] for h in hours]


def put(folder: Path, name: str, rows: list[list[float]], form: str = "feather", unit: str = "ms") -> Path:
    path = folder / f"{name}.{form}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "feather":
        columns = ["date", "open", "high", "low", "close", "volume"]
        frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Float64), orient="row")
        dates = (pl.col("date").cast(pl.Int64) * 1000).cast(pl.Datetime("us", "UTC")).dt.cast_time_unit(unit)
        frame.with_columns(dates).write_ipc(path, compression="lz4")
    else:
        content = json.dumps(rows).encode()
        path.write_bytes(gzip.compress(content) if form == "json.gz" else content)
    return path


def read(folder: Path, venue: str = "binanceusdm", **more) -> dict[str, pl.DataFrame]:
    found = read_freqtrade(folder, SETTINGS, venue=venue, **more)
    for name, rows in found.items():
        assert conform(rows, table(name), stamps=False).equals(rows)
    return found


@pytest.mark.parametrize("form", ["feather", "json", "json.gz"])
def test_every_format_gives_the_same_bars(tmp_path: Path, form: str) -> None:
    put(tmp_path, BTC, rows_of(0, 1), form)
    bars = read(tmp_path)["ohlcv"]
    assert bars.select("venue", "symbol", "asset", "kind", "timeframe").unique().rows() == [
        ("binanceusdm", "BTC/USDT:USDT", "BTC", "perp", "1h")
    ]
    assert bars.select("ts", "open", "high", "low", "close", "volume").rows() == [
        (T0, 10.0, 12.0, 9.0, 11.0, 5.0),
        (T0 + HOUR, 10.0, 12.0, 9.0, 11.0, 5.0),
    ]
    assert bars["available_at"].to_list() == [T0 + HOUR + timedelta(seconds=5), T0 + 2 * HOUR + timedelta(seconds=5)]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_feather_dates_of_any_unit(tmp_path: Path, unit: str) -> None:
    put(tmp_path, BTC, rows_of(0), unit=unit)
    assert read(tmp_path)["ohlcv"]["ts"].to_list() == [T0]


@pytest.mark.parametrize(
    ("name", "venue", "expected"),
    [
        ("BTC_USDT-1h", "binanceusdm", ("binance", "BTC/USDT", "BTC", "spot")),
        ("BTC_USDT-1h", "binance", ("binance", "BTC/USDT", "BTC", "spot")),
        ("BTC_USDT-1h", "okx", ("okx", "BTC/USDT", "BTC", "spot")),
        (BTC, "binance", ("binanceusdm", "BTC/USDT:USDT", "BTC", "perp")),
        ("BTC_USDT_USDT-1h-futures", "bybit", ("bybit", "BTC/USDT:USDT", "BTC", "perp")),
        ("futures/BTC_USDC_USDC-1h-futures", "hyperliquid", ("hyperliquid", "BTC/USDC:USDC", "BTC", "perp")),
        ("futures/1000PEPE_USDT_USDT-1h-futures", "bybit", ("bybit", "1000PEPE/USDT:USDT", "PEPE", "perp")),
        ("futures/1INCH_USDT_USDT-1h-futures", "bybit", ("bybit", "1INCH/USDT:USDT", "1INCH", "perp")),
        ("futures/BTC_USDT_USDT-1h-mark", "bybit", ("bybit", "BTC/USDT:USDT", "BTC", "mark")),
        ("futures/BTC_USDT_USDT-1h-index", "bybit", ("bybit", "BTC/USDT:USDT", "BTC", "index")),
    ],
)
def test_names_become_ccxt_symbols_of_the_right_venue(tmp_path: Path, name: str, venue: str, expected) -> None:
    put(tmp_path, name, rows_of(0))
    bars = read(tmp_path, venue)["ohlcv"]
    assert bars.select("venue", "symbol", "asset", "kind").rows() == [expected]
    assert bars["volume"].to_list() == [None if expected[3] in ("mark", "index") else 5.0]


def test_spot_takes_its_own_venues_delay_and_an_unknown_one_the_usual(tmp_path: Path) -> None:
    put(tmp_path, "BTC_USDT-1h", rows_of(0))
    assert read(tmp_path, "binance")["ohlcv"]["available_at"].to_list() == [T0 + HOUR + timedelta(seconds=9)]
    assert read(tmp_path, "okx")["ohlcv"]["available_at"].to_list() == [T0 + HOUR + timedelta(seconds=5)]


def test_payments_stand_on_their_hour_with_the_interval_of_their_stamps(tmp_path: Path) -> None:
    paid = rows_of(0, 8, 16, open=0.0001, high=0.0, low=0.0, close=0.0, volume=0.0)
    late = [[row[0] + 7, *row[1:]] for row in paid]
    put(tmp_path, "futures/BTC_USDT_USDT-8h-funding_rate", late)
    put(tmp_path, "futures/BTC_USDT_USDT-1h-funding_rate", paid[1:])
    funding = read(tmp_path)["funding"]
    assert funding.select("ts", "rate", "interval_h").rows() == [(T0 + h * HOUR, 0.0001, 8.0) for h in (0, 8, 16)]
    assert funding["available_at"][0] == T0 + timedelta(seconds=5, milliseconds=7)


@pytest.mark.parametrize(("beside", "known"), [(59, 64), (-59, 5), (0, 5)])
def test_a_payment_is_not_known_before_its_own_stamp(tmp_path: Path, beside: int, known: int) -> None:
    put(tmp_path, "futures/BTC_USDT_USDT-8h-funding_rate", [[rows_of(8)[0][0] + beside * 1000, *rows_of(8)[0][1:]]])
    funding = read(tmp_path)["funding"]
    assert funding.select("ts", "available_at").row(0) == (T0 + 8 * HOUR, T0 + 8 * HOUR + timedelta(seconds=known))


def test_minute_bars_when_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "futures/BTC_USDT_USDT-1m-futures", rows_of(0, 1, 2, step=timedelta(minutes=1)))
    put(tmp_path, BTC, rows_of(0))
    bars = read(tmp_path, timeframe="1m")["ohlcv"]
    assert bars["ts"].to_list() == [T0 + timedelta(minutes=m) for m in range(3)]
    assert (bars["available_at"] - bars["ts"]).unique().to_list() == [timedelta(minutes=1, seconds=5)]


def test_unsorted_repeated_and_blank_rows(tmp_path: Path) -> None:
    rows = [*rows_of(2, 0), *rows_of(0, open=11.0), *rows_of(1, close=float("nan"))]
    put(tmp_path, BTC, [*rows, *rows[:1]])
    told: list[str] = []
    bars = read(tmp_path, tell=told.append)["ohlcv"]
    assert bars.select("ts", "open").rows() == [(T0, 11.0), (T0 + 2 * HOUR, 10.0)]
    name = Path(BTC).name + ".feather"
    assert told == [
        f"{name}: 1 rows left out that contradict another of their ts, the first at 2025-01-01T00:00:00Z; "
        "the last of each counts",
        f"{name}: 1 rows without open or high or low or close left out, the first at 2025-01-01T01:00:00Z",
    ]


def test_two_files_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    put(tmp_path, BTC, rows_of(0, 1))
    put(tmp_path, Path(BTC).name, rows_of(0, open=11.0))
    told: list[str] = []
    assert read(tmp_path, tell=told.append)["ohlcv"].height == 2
    assert [line.split(",")[0] for line in told] == ["ohlcv: 1 rows left out that contradict another of their ts"]


def test_a_funding_stamp_beside_its_hour_is_refused_and_not_told_before_it_was_known(tmp_path: Path) -> None:
    paid = [[row[0] + 61_000, *row[1:]] for row in rows_of(8)]
    put(tmp_path, "futures/BTC_USDT_USDT-8h-funding_rate", [*rows_of(0), *paid])
    with pytest.raises(DataError, match=r"funding_rate\.feather has 1 funding stamps .* got 2025-01-01T08:01:01Z"):
        read(tmp_path)


def test_a_small_file_that_unpacks_to_too_much_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freqtrade, "MOST_JSON_BYTES", 1000)
    put(tmp_path, BTC, rows_of(0), "json.gz")
    assert read(tmp_path)["ohlcv"].height == 1
    put(tmp_path, BTC, rows_of(*range(100)), "json.gz")
    with pytest.raises(DataError, match=r"futures\.json\.gz unpacks to too much; expected at most 1000 bytes"):
        read(tmp_path)
    (tmp_path / f"{BTC}.json.gz").unlink()
    put(tmp_path, BTC, rows_of(*range(100)), "json")
    with pytest.raises(DataError, match=r"futures\.json is too large; expected at most 1000 bytes; convert it"):
        read(tmp_path)


@pytest.mark.parametrize("count", [2**62, -(2**62), 10**17, 2**63 - 1])
def test_a_wild_date_is_one_line(tmp_path: Path, count: int) -> None:
    path = put(tmp_path, BTC, rows_of(0))
    wild = pl.Series([count]).cast(pl.Datetime("ms", "UTC"))
    pl.read_ipc(path.read_bytes()).with_columns(date=wild).write_ipc(path)
    with pytest.raises(DataError, match=r"futures\.feather column date; expected instants of the years 2009 to 2199"):
        read(tmp_path)


def test_what_is_no_candle_file_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path, BTC, rows_of(0))
    put(tmp_path, "futures/BTC_USDT_USDT-4h-futures", rows_of(0))
    put(tmp_path, "BTC_USDT-trades", rows_of(0))
    put(tmp_path, "futures/BTC_USDT_USDT-240329-1h-futures", rows_of(0))
    put(tmp_path, "futures/BTC_USDT_USDT-1h-open_interest", rows_of(0))
    (tmp_path / "futures" / "ETH_USDT_USDT-1h-futures.feather").mkdir()
    assert read(tmp_path)["ohlcv"].height == 1


def test_an_empty_file_gives_nothing(tmp_path: Path) -> None:
    put(tmp_path, BTC, rows_of(0))
    put(tmp_path, "ETH_USDT-1h", [], "json")
    put(tmp_path, "futures/ETH_USDT_USDT-1h-futures", [])
    assert read(tmp_path)["ohlcv"].height == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("BTC_USDT-1h.feather", b"not arrow"),
        ("BTC_USDT-1h.feather", b""),
        ("BTC_USDT-1h.json", b""),
        ("BTC_USDT-1h.json", b'{"a": 1}'),
        ("BTC_USDT-1h.json", b"[[1,2,3]]"),
        ("BTC_USDT-1h.json", b'[[1735689600000, "10", 12, 9, 11, 5]]'),
        ("BTC_USDT-1h.json", b"[[1735689600000, 10, 12, 9, 11, true]]"),
        ("BTC_USDT-1h.json", b"[[1735689600, 10, 12, 9, 11, 5]]"),
        ("BTC_USDT-1h.json", b"[[null, 10, 12, 9, 11, 5]]"),
        ("BTC_USDT-1h.json", b"[[1e400, 10, 12, 9, 11, 5]]"),
        ("BTC_USDT-1h.json", b"[[1735689660000, 10, 12, 9, 11, 5]]"),
        ("BTC_USDT-1h.json", b"[[" + b"9" * 400 + b", 10, 12, 9, 11, 5]]"),
        ("BTC_USDT-1h.json", b"[" * 100_000),
        ("BTC_USDT-1h.json.gz", b"not gzip"),
        ("BTC_USDT-1h.json.gz", gzip.compress(b"[]", mtime=0)[:-4]),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_feather_file_without_a_column_names_it(tmp_path: Path) -> None:
    pl.DataFrame({"date": [T0], "open": [1.0]}).write_ipc(tmp_path / "BTC_USDT-1h.feather")
    with pytest.raises(DataError, match="no column 'high'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({}, DataError, "holds no freqtrade file"),
        ({"venue": "binanceusdn"}, ConfigError, "no exchange that ccxt knows; expected binanceus"),
        ({"timeframe": "5m"}, ConfigError, "unknown timeframe"),
    ],
)
def test_a_wrong_choice_is_refused(tmp_path: Path, more, error, says: str) -> None:
    with pytest.raises(error, match=says):
        read(tmp_path, **more)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not there"):
        read(tmp_path / "nowhere")
