"""`oihedge import` of archives and freqtrade folders: rows, notes, and bad input that leaves the lake untouched."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
