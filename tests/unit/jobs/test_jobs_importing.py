"""`oihedge import` of archives and freqtrade folders: rows, notes, and bad input that leaves the lake untouched."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import polars as pl
import pytest

from oihedge.cli import main
from oihedge.config import load
from oihedge.core.tables import UTC_TIME
from oihedge.jobs.importing import holes
from oihedge.jobs.opening import open_lake

T0 = datetime(2024, 1, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPAN = ("--start", "2024-01-02", "--end", "2024-01-04", "--as-of", "2024-01-05T00:10:00Z")


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["import", *arguments])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.long
def test_archives_are_downloaded_read_and_judged_and_again_change_nothing(tmp_path: Path, capfd) -> None:
    told = ("--home", str(tmp_path), "--vision", str(tmp_path / "vision"), "--download", *SPAN, "--json")
    code, out, _ = run(capfd, *told)
    assert code == 0
    report = json.loads(out)
    assert report["share_good"] == 1.0
    added = {(row["venue"], row["table"]): row["added"] for row in report["rows"]}
    assert added[("binanceusdm", "ohlcv")] == added[("binance", "ohlcv")] == 3 * 48
    assert added[("binanceusdm", "long_short")] == 3 * added[("binanceusdm", "open_interest")]
    assert "files fetched, 0 there already" in report["notes"][0]
    _, out, _ = run(capfd, *told)
    again = json.loads(out)
    assert "0 files fetched" in again["notes"][0]
    assert {row["added"] for row in again["rows"]} == {0}
    lake = open_lake(load(["market=embedded"], home=tmp_path))
    assert lake.rows("validated", "ohlcv").select(pl.len()).collect().item() == 2 * 3 * 48


def test_a_freqtrade_folder_fills_a_lake_of_real_markets_and_its_holes_are_told(tmp_path: Path, capfd) -> None:
    folder = tmp_path / "binance"
    folder.mkdir()
    bars = [[int((T0 + h * HOUR).timestamp() * 1000), 10.0, 12.0, 9.0, 11.0, 5.0] for h in (0, 1, 4)]
    (folder / "BTC_USDT-1h.json").write_text(json.dumps(bars))
    told = ("--home", str(tmp_path), "--freqtrade", str(folder), "--venue", "binance", "--json", "market=ccxt")
    code, out, _ = run(capfd, *told)
    assert code == 0
    report = json.loads(out)
    assert [(row["table"], row["added"]) for row in report["rows"]] == [("ohlcv", 3)]
    assert report["files"] == 1
    assert report["notes"] == [
        "ohlcv binance BTC/USDT spot 1h: 2 of 5 rows missing, at most 2 in a row (after 2024-01-03T01:00:00Z)"
    ]
    assert not open_lake(load(["market=ccxt"], home=tmp_path)).simulated


def test_rows_that_could_not_be_known_yet_stay_out(tmp_path: Path, capfd) -> None:
    bars = [[int((T0 + h * HOUR).timestamp() * 1000), 10.0, 12.0, 9.0, 11.0, 5.0] for h in range(3)]
    (tmp_path / "BTC_USDT-1h.json").write_text(json.dumps(bars))
    code, out, _ = run(capfd, "--home", str(tmp_path), "--freqtrade", str(tmp_path), "--venue", "okx", "--json",
                       "--as-of", "2024-01-03T02:30:00Z", "market=ccxt")  # fmt: skip
    assert code == 0
    report = json.loads(out)
    assert report["rows"][0]["added"] == 2
    assert "ohlcv: 1 rows are not complete yet at 2024-01-03T02:30:00Z" in report["notes"][0]


def test_a_spec_leaves_out_rows_that_are_not_complete_yet_and_a_later_import_takes_them(tmp_path: Path, capfd) -> None:
    (tmp_path / "bars.csv").write_text(
        "time,o,h,l,c\n" + "".join(f"2024-01-03 0{h}:00:00,10,12,9,11\n" for h in range(3))
    )
    (tmp_path / "spec.yaml").write_text(
        "{table: ohlcv, file: bars.csv, venue: okx, asset: BTC, kind: perp, stamp: open, time_zone: UTC, "
        "columns: {ts: time, open: o, high: h, low: l, close: c}}"
    )
    told = ("--home", str(tmp_path), "--spec", str(tmp_path / "spec.yaml"), "--json", "market=imported", "--as-of")
    seen = []
    for as_of in ("2024-01-03T02:30:00Z", "2024-01-03T03:30:00Z"):
        code, out, _ = run(capfd, *told, as_of)
        assert code == 0
        report = json.loads(out)
        seen.append((report["rows"][0]["added"], len(report["notes"]), report["share_good"]))
    assert seen == [(2, 1, 1.0), (1, 0, 1.0)]
    lake = open_lake(load(["market=imported"], home=tmp_path))
    assert lake.read("validated", "ohlcv").collect().height == 3
    assert lake.read("derived", "quarantine").collect().is_empty()


BARS_SPEC = (
    "{table: ohlcv, file: FILE, venue: binanceusdm, asset: BTC, kind: KIND, stamp: open, time_zone: UTC, "
    "columns: {ts: time, open: o, high: h, low: l, close: c}}"
)
DOLLARS = (
    "{table: open_interest, file: oi.csv, venue: binanceusdm, asset: BTC, symbol: BTC/USDT:USDT, unit: usd, "
    "stamp: instant, time_zone: UTC, columns: {ts: time, oi: oi}, price: {venue: binanceusdm, symbol: BTC/USDT:USDT}}"
)


def bars_of(folder: Path, kind: str, *opens: float) -> Path:
    """Write hourly bars that open and close at `opens`, a negative one above its high, and their spec."""
    lines = [f"2024-01-03 0{h}:00:00,{abs(p)},{p if p > 0 else -p / 2},1,{abs(p)}" for h, p in enumerate(opens)]
    (folder / f"{kind}.csv").write_text("\n".join(["time,o,h,l,c", *lines]))
    (folder / f"{kind}.yaml").write_text(BARS_SPEC.replace("FILE", f"{kind}.csv").replace("KIND", kind))
    return folder / f"{kind}.yaml"


def dollars_of(folder: Path, hours: int, usd: float = 1e6) -> Path:
    lines = [f"2024-01-03 0{h}:00:00,{usd}" for h in range(hours)]
    (folder / "oi.csv").write_text("\n".join(["time,oi", *lines]))
    (folder / "oi.yaml").write_text(DOLLARS)
    return folder / "oi.yaml"


def interest(home: Path) -> list[tuple[int, float]]:
    rows = open_lake(load(["market=imported"], home=home)).read("raw", "open_interest").collect()
    return list(rows.select(pl.col("ts").dt.hour(), "oi_base").iter_rows())


LATER = ("--json", "market=imported", "--as-of", "2024-01-05T00:00:00Z")


def test_open_interest_in_usd_is_divided_by_bars_of_trades_alone(tmp_path: Path, capfd) -> None:
    specs = [bars_of(tmp_path, kind, *[price] * 3) for kind, price in (("perp", 50.0), ("mark", 49.0), ("index", 40.0))]
    told = [word for spec in specs for word in ("--spec", str(spec))]
    assert run(capfd, "--home", str(tmp_path), *told, *LATER)[0] == 0
    assert run(capfd, "--home", str(tmp_path), "--spec", str(dollars_of(tmp_path, 3)), *LATER)[0] == 0
    assert interest(tmp_path) == [(0, 20_000.0), (1, 20_000.0), (2, 20_000.0)]


def test_a_bar_that_quality_keeps_out_divides_nothing_also_where_one_import_brings_both(tmp_path: Path, capfd) -> None:
    bars = bars_of(tmp_path, "perp", 50.0, -95.0, 50.0)
    both = ("--spec", str(dollars_of(tmp_path, 3)), "--spec", str(bars))  # whichever is named first
    code, out, _ = run(capfd, "--home", str(tmp_path), *both, "quality.min_good_share=0.1", *LATER)
    assert code == 0
    report = json.loads(out)
    assert report["notes"] == [
        "1 rows of open interest in USD left out: no bar of binanceusdm BTC/USDT:USDT opens at their ts"
    ]
    assert {row["table"]: (row["good"], row["quarantined"]) for row in report["judged"]} == {
        "ohlcv": (2, 1), "open_interest": (2, 0)
    }  # fmt: skip
    assert report["share_good"] == 4 / 5
    assert interest(tmp_path) == [(0, 20_000.0), (2, 20_000.0)]


def test_the_bar_under_way_opens_where_the_one_before_it_closed(tmp_path: Path, capfd) -> None:
    both = ("--spec", str(bars_of(tmp_path, "perp", 50.0, 40.0, 20.0)), "--spec", str(dollars_of(tmp_path, 3)))
    told = ("--home", str(tmp_path), *both, "--json", "market=imported", "--as-of", "2024-01-03T02:30:00Z")
    assert run(capfd, *told)[0] == 0
    assert interest(tmp_path) == [(0, 20_000.0), (1, 25_000.0), (2, 25_000.0)]


def test_without_one_good_bar_the_import_says_so(tmp_path: Path, capfd) -> None:
    both = ("--spec", str(bars_of(tmp_path, "perp", -95.0)), "--spec", str(dollars_of(tmp_path, 1)))
    code, out, err = run(capfd, "--home", str(tmp_path), *both, *LATER)
    assert (code, out) == (3, "")
    assert "no bar of binanceusdm BTC/USDT:USDT that quality let through was known" in err.splitlines()[-1]


def test_a_bad_file_of_priced_interest_leaves_the_lake_untouched(tmp_path: Path, capfd) -> None:
    both = ("--spec", str(bars_of(tmp_path, "perp", 50.0)), "--spec", str(dollars_of(tmp_path, 1)))
    (tmp_path / "oi.csv").write_text("time,oi\n2024-01-03 00:00:00,many\n")
    assert run(capfd, "--home", str(tmp_path), *both, *LATER)[0] == 3
    assert not (tmp_path / "data" / "lake").exists()


def test_every_file_that_was_read_is_remembered_once_by_its_hash(tmp_path: Path, capfd) -> None:
    specs = (bars_of(tmp_path, "perp", 50.0, 50.0), dollars_of(tmp_path, 2))
    told = ("--home", str(tmp_path), *(word for spec in specs for word in ("--spec", str(spec))), "--json")
    lake = open_lake(load(["market=imported"], home=tmp_path))
    for as_of in ("2024-01-05T00:00:00Z", "2024-01-06T00:00:00Z"):
        code, out, _ = run(capfd, *told, "market=imported", "--as-of", as_of)
        assert code == 0
        assert json.loads(out)["files"] == 2
        rows = lake.rows("derived", "imported_files").sort("file").collect()
        assert rows.select("file", "table", "rows", "ts").rows() == [
            ("oi.csv", "open_interest", 2, T0), ("perp.csv", "ohlcv", 2, T0)
        ]  # fmt: skip
        assert rows["sha256"][1] == sha256((tmp_path / "perp.csv").read_bytes()).hexdigest()
        assert set(rows["ingested_at"].dt.day()) == {5}


def test_archive_files_are_remembered_with_the_rows_of_the_days_they_cover(tmp_path: Path, capfd) -> None:
    name = "futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01-03.zip"
    path = tmp_path / "vision" / name
    path.parent.mkdir(parents=True)
    stamps = [int((T0 + h * HOUR).timestamp() * 1000) for h in range(24)]
    with ZipFile(path, "w") as archive:
        text = "".join(f"{at},10,12,9,11,5,{at + 3599999},0,0,0,0,0\n" for at in stamps)
        archive.writestr(f"{path.stem}.csv", text)
    content = sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{content}  {path.name}\n")
    told = ("--home", str(tmp_path), "--vision", str(tmp_path / "vision"), "--kinds", "klines", *SPAN, "--json")
    code, out, _ = run(capfd, *told, "market=ccxt")
    assert code == 0
    assert json.loads(out)["files"] == 1
    rows = open_lake(load(["market=ccxt"], home=tmp_path)).rows("derived", "imported_files").collect()
    assert rows.select("file", "sha256", "table", "rows", "ts").rows() == [(name, content, "ohlcv", 24, T0)]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "import needs one kind of source"),
        (("--vision", "x", "--freqtrade", "y"), 2, "got --vision and --freqtrade"),
        (("--vision", "x", "--download"), 2, "needs to know from when"),
        (("--freqtrade", "x"), 2, "whose data it is"),
        (("--freqtrade", "x", "--venue", "okx", "--start", "2024-01-01"), 2, "--start does not go with --freqtrade"),
        (("--spec", "x", "--timeframe", "1m"), 2, "--timeframe does not go with --spec"),
        (("--vision", "x", "--start", "yesterday"), 2, "--start is not a date"),
        (("--vision", "nowhere", "--start", "2024-01-01"), 3, "is not there"),
        (("--vision", ".", "--kinds", "candles"), 2, "unknown kind of archive"),
        (("--vision", ".", "--timeframe", "2h"), 2, "unknown timeframe"),
        (("--vision", ".", "--start", "2024-01-01", "--end", "2024-01-02"), 3, "no archive file"),
        (("--freqtrade", ".", "--venue", "okx"), 3, "holds no freqtrade file"),
        (("--freqtrade", ".", "--venue", "okex9"), 2, "no exchange that ccxt knows"),
        (("--spec", "nowhere.yaml"), 2, "is not there"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_lake_untouched(
    tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    got, out, err = run(capfd, "--home", str(tmp_path), *arguments, "market=ccxt")
    assert got == code
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("oihedge: ")
    assert says in last
    assert not (tmp_path / "data" / "lake").exists()


def test_a_damaged_file_among_good_ones_leaves_the_lake_untouched(tmp_path: Path, capfd) -> None:
    (tmp_path / "BTC_USDT-1h.json").write_text("[]")
    (tmp_path / "ETH_USDT-1h.json").write_text("{")
    code, _, err = run(capfd, "--home", str(tmp_path), "--freqtrade", str(tmp_path), "--venue", "okx", "market=ccxt")
    assert code == 3
    assert "ETH_USDT-1h.json cannot be read" in err.splitlines()[-1]
    assert not (tmp_path / "data" / "lake").exists()


def test_the_inputs_verb_reports_what_came_and_what_is_off(
    tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIHEDGE_LUNARCRUSH_KEY", "s3cret-K3Y")
    for name in ("GLASSNODE", "CRYPTOQUANT", "SANTIMENT"):
        monkeypatch.delenv(f"OIHEDGE_{name}_KEY", raising=False)
    quick = "market.inputs.sources.lunarcrush.pace_s=0"
    code = main(
        ["inputs", "--home", str(tmp_path), "--start", "2024-01-01", "--as-of", "2024-01-05T15:00:00Z", "--json", quick]
    )
    out, err = capfd.readouterr()
    assert code == 0
    report = json.loads(out)
    assert [row["source"] for row in report["rows"]] == [
        "coinmetrics", "alternative", "blockchain", "lunarcrush", "calendars"
    ]  # fmt: skip
    assert len(report["off"]) == 3
    assert "s3cret-K3Y" not in out + err


def test_holes_count_by_series_between_first_and_last() -> None:
    ts = [T0 + h * HOUR for h in (0, 1, 2, 5, 6, 8)]
    rows = pl.DataFrame({"venue": "x", "symbol": "B", "ts": ts}, schema_overrides={"ts": UTC_TIME})
    whole = rows.head(3).with_columns(symbol=pl.lit("A"))
    assert holes("open_interest", pl.concat([rows, whole])) == [
        "open_interest x B: 3 of 9 rows missing, at most 2 in a row (after 2024-01-03T02:00:00Z)"
    ]
    assert holes("open_interest", rows.clear()) == []
