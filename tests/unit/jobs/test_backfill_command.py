"""`oihedge backfill` and `oihedge data list` as commands: what they print, what they refuse, what they leave alone."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from oihedge.cli import main
from oihedge.cli.progress import Telling
from oihedge.config import load
from oihedge.jobs import finished
from oihedge.jobs.opening import open_lake

AS_OF = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
DAYS = ("--start", "2025-05-01", "--end", "2025-06-01", "--as-of", "2025-07-01T00:05:00Z")


def printed(*words: str, home: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main([words[0], *words[1:], "--home", str(home)])
    out, err = capfd.readouterr()
    return code, out, err


def test_a_plan_is_printed_and_nothing_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = printed("backfill", *DAYS, "--plan", "--venue", "binanceusdm", home=tmp_path, capfd=capfd)
    assert code == 0
    assert "binanceusdm" in out
    assert "only an archive can give" in out
    assert "1 chunks, about" in out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_as_json_has_the_same_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = printed("backfill", *DAYS, "--plan", "--json", "--table", "ohlcv", home=tmp_path, capfd=capfd)
    report: dict[str, Any] = json.loads(out)
    bars = [task for task in report["tasks"] if task["table"] == "ohlcv"]
    assert {(task["days"], task["finished"], task["rows"]) for task in bars} == {(31, 0, 3 * 31 * 24)}
    assert report["calls"] == sum(task["calls"] for task in report["tasks"])
    assert report["only_archives"] == []


def test_a_plan_says_which_days_are_finished(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = load(home=tmp_path)
    bybit = next(venue for venue in config.market.venues if venue.id == "bybit" and venue.kind == "spot")
    days = [datetime(2025, 5, day, tzinfo=UTC) for day in range(1, 11)]
    finished.record(open_lake(config), config, bybit, {"ohlcv": days}, AS_OF)
    _, out, _ = printed("backfill", *DAYS, "--plan", "--venue", "bybit", home=tmp_path, capfd=capfd)
    assert "10 days of venues' tables were finished before and are skipped" in out


def test_holes_are_planned_without_a_span(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = printed(
        "backfill", "--gaps", "--plan", "--json", "--layer", "raw", "--table", "ohlcv", home=tmp_path, capfd=capfd
    )
    report, config = json.loads(out), load(home=tmp_path)
    assert code == 0
    symbols = [symbol for venue in config.market.venues for symbol in venue.symbols.values()]
    assert sorted(hole["symbol"] for hole in report["holes"]) == sorted(symbols), "nothing is there yet: all is a hole"
    assert report["to_ask"] + report["only_archives"] == sum(hole["rows"] for hole in report["holes"])
    assert report["held"] == 0
    assert 0 < report["seconds"] < report["calls"], "the venues are asked side by side"
    _, out, _ = printed(
        "backfill", "--gaps", "--plan", "--layer", "raw", "--table", "ohlcv", home=tmp_path, capfd=capfd
    )
    assert str(timedelta(seconds=round(report["seconds"]))) in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--start", "2025-05-01"), "--end"),
        (("--start", "2025-06-01", "--end", "2025-05-01"), "start before end"),
        (("--start", "2025-05-01T00:00:00", "--end", "2025-06-01"), "--start has no time zone"),
        (("--start", "2025-05-01T05:00:00Z", "--end", "2025-06-01"), "--start lies within a day"),
        ((*DAYS[:2], "--end", "2030-01-01"), "future"),
        ((*DAYS, "--venue", "kraken"), "no venue 'kraken'"),
        ((*DAYS, "--table", "ohlc"), "no table 'ohlc'"),
        ((*DAYS, "market=imported", "features.perp_venue=x"), "no venues"),
        (("--gaps", "--layer", "derived"), "validated or raw"),
        (("--gaps", "--end", "2030-01-01"), "future"),
    ],
)
def test_what_the_user_got_wrong_is_one_line_and_exit_2(
    words: tuple[str, ...], named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = printed("backfill", *words, home=tmp_path, capfd=capfd)
    assert code == 2
    assert out == ""
    assert named in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_empty_lake_lists_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = printed("data", "list", "--show-timerange", "--json", home=tmp_path, capfd=capfd)
    assert (code, json.loads(out)["series"]) == (0, [])
    _, out, _ = printed("data", "list", home=tmp_path, capfd=capfd)
    assert "none" in out


def test_venues_side_by_side_each_tell_their_own_quarters() -> None:
    text = io.StringIO()
    console = Console(file=text, width=200)
    with Progress(console=console, disable=True) as bar:
        telling = Telling(console, bar)
        telling.begin("venues")
        for done in range(9):
            telling(done, 8, f"day {done}", lane="bybit perp")
            telling(done // 2, 8, f"day {done // 2}", lane="okx perp")
    lines = [line.strip() for line in text.getvalue().splitlines()]
    assert lines == [
        "- venues",
        "venues 2/8 bybit perp day 2",
        "venues 4/8 bybit perp day 4",
        "venues 2/8 okx perp day 2",
        "venues 6/8 bybit perp day 6",
        "venues 8/8 bybit perp day 8",
        "venues 4/8 okx perp day 4",
    ]
