"""The inputs job: rows in raw/, revisions and late days at their own time, failures that hinder nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from fakes.web_service import Reply, WebService
from pydantic import SecretStr

from oihedge.config import Config, load
from oihedge.core.clock import FixedClock
from oihedge.core.errors import ConfigError, VenueError
from oihedge.jobs import inputs as job
from oihedge.jobs.opening import open_lake
from oihedge.market.inputs.settings import Inputs
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer

DAY = timedelta(days=1)
T0 = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 1, 20, 14, tzinfo=UTC)
KEY = "s3cret-K3Y"
KEYS = {name: SecretStr(KEY) for name in ("glassnode", "cryptoquant", "santiment", "lunarcrush")}
QUICK = [f"market.inputs.sources.{name}.pace_s=0" for name in ("coinmetrics", "blockchain", *KEYS)]
PATIENCE = {"timeout_s": 10.0, "attempts": 2, "backoff_s": 0.01, "max_backoff_s": 0.02, "max_pause_s": 1.0, "max_mb": 1}


EMBEDDED, REAL = load(QUICK), load(["market=ccxt"])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    market = EmbeddedMarket(EMBEDDED.simulator)
    with LoopbackServer(market, FixedClock(NOW + 5 * DAY)) as server:
        yield server.url


def config(home: Path) -> Config:
    return EMBEDDED.model_copy(update={"home": home})


def real(home: Path, **urls: str) -> Config:
    """A real market whose sources answer at `urls`."""
    told = {"use": True, "assets": {"BTC": "btc"}, "delay_h": 6.0, "history": "as_published", "metrics": {"m": "u"}}
    sources = {name: {**told, "url": url} for name, url in urls.items()}
    inputs = Inputs.model_validate({"patience": PATIENCE, "sources": sources})
    return REAL.model_copy(update={"home": home, "market": REAL.market.model_copy(update={"inputs": inputs})})


def chart(*days: datetime) -> Reply:
    return Reply({"values": [{"x": int(day.timestamp()), "y": 1.0} for day in days]})


def raw(told: Config, name: str) -> pl.DataFrame:
    return open_lake(told).rows("raw", name).collect()


def test_every_source_and_the_calendars_fill_the_lake_and_again_change_nothing(tmp_path: Path, url: str) -> None:
    told = config(tmp_path)
    first = job.run(told, as_of=NOW, start=T0, market_url=url, keys=KEYS)
    assert first.failures == ()
    assert first.off == ()
    assert {row["source"] for row in first.rows} == {"coinmetrics", "alternative", "blockchain", *KEYS, "calendars"}
    assert all(row["added"] == row["fetched"] > 0 for row in first.rows)
    versions = [open_lake(told).version("raw", name) for name in ("onchain", "sentiment", "events")]
    again = job.run(told, as_of=NOW, market_url=url, keys=KEYS)
    assert [row["added"] for row in again.rows] == [0] * len(again.rows)
    assert [open_lake(told).version("raw", name) for name in ("onchain", "sentiment", "events")] == versions
    assert raw(told, "events").filter(pl.col("available_at") > NOW).is_empty()
    stored = str([raw(told, name).to_dicts() for name in ("onchain", "sentiment", "events")])
    assert KEY not in stored + str(first) + str(again)


def test_a_revised_figure_is_a_second_row_known_from_its_arrival(tmp_path: Path, url: str) -> None:
    told = config(tmp_path)
    for now in (NOW, NOW + DAY):
        job.run(told, as_of=now, start=T0, market_url=url, keys=KEYS)
    day = NOW.replace(hour=0) - DAY
    rows = raw(told, "onchain").filter(source="glassnode", asset="BTC", metric="market/mvrv", ts=day)
    assert rows.sort("available_at")["available_at"].to_list() == [NOW, NOW + DAY]
    then = open_lake(told).read("raw", "onchain", as_of=NOW + DAY - timedelta(seconds=1)).collect()
    seen = then.filter(source="glassnode", asset="BTC", metric="market/mvrv", ts=day)["value"].item()
    assert seen == rows.sort("available_at")["value"][0] != rows.sort("available_at")["value"][1]


def test_a_day_seen_for_the_first_time_is_known_from_then_but_for_what_a_pause_has_missed(tmp_path: Path) -> None:
    soon, pause = T0 + 3 * DAY, T0 + 9 * DAY
    with WebService(chart(T0), chart(T0, T0 + DAY), chart(*(T0 + n * DAY for n in range(8)))) as service:
        told = real(tmp_path, blockchain=service.url)
        for now in (T0 + 2 * DAY, soon, pause):
            job.run(told, as_of=now, start=T0)
    known = dict(raw(told, "onchain").select("ts", "available_at").rows())
    delay = DAY + timedelta(hours=6)
    assert known[T0] == T0 + delay  # the first fetch
    assert known[T0 + DAY] == soon  # was due 18 hours before
    assert known[T0 + 4 * DAY] == T0 + 4 * DAY + delay  # missed in the pause
    assert known[T0 + 7 * DAY] == pause


def test_a_newest_day_that_an_earlier_run_should_have_found_is_known_from_now(tmp_path: Path) -> None:
    late = T0 + DAY
    with WebService(chart(T0), chart(T0, late)) as service:
        told = real(tmp_path, blockchain=service.url)
        for now in (late + 2 * DAY, late + 2 * DAY + timedelta(hours=1)):
            job.run(told, as_of=now, start=T0)
    assert dict(raw(told, "onchain").select("ts", "available_at").rows())[late] == late + 2 * DAY + timedelta(hours=1)


def test_a_day_that_a_series_left_out_and_brings_later_is_known_from_then(tmp_path: Path) -> None:
    late = T0 + DAY
    runs = [(T0 + n * DAY, [T0 + k * DAY for k in range(n) if T0 + k * DAY != late or n == 9]) for n in range(2, 10)]
    with WebService(*(chart(*days) for _, days in runs)) as service:
        told = real(tmp_path, blockchain=service.url)
        for now, _ in runs:
            job.run(told, as_of=now + timedelta(hours=7), start=T0)
    known = dict(raw(told, "onchain").select("ts", "available_at").rows())
    assert known[late] == T0 + 9 * DAY + timedelta(hours=7)
    assert late not in open_lake(told).read("raw", "onchain", as_of=T0 + 9 * DAY).collect()["ts"].to_list()


def test_days_that_come_after_a_source_stood_still_while_it_was_asked_are_known_from_then(tmp_path: Path) -> None:
    runs = [(T0 + n * DAY, [T0 + k * DAY for k in range(n if n in (2, 9) else 2)]) for n in range(2, 10)]
    with WebService(*(chart(*days) for _, days in runs)) as service:
        told = real(tmp_path, blockchain=service.url)
        for now, _ in runs:
            job.run(told, as_of=now + timedelta(hours=7), start=T0)
    known = dict(raw(told, "onchain").select("ts", "available_at").rows())
    assert {known[T0 + k * DAY] for k in range(2, 9)} == {T0 + 9 * DAY + timedelta(hours=7)}


def test_days_before_the_first_that_a_series_had_are_taken_as_published_on_time(tmp_path: Path) -> None:
    days = [T0 + n * DAY for n in range(6)]
    with WebService(chart(*days[3:]), chart(*days)) as service:
        told = real(tmp_path, blockchain=service.url)
        for now in (NOW, NOW + DAY):
            job.run(told, as_of=now, start=T0)
    known = dict(raw(told, "onchain").select("ts", "available_at").rows())
    assert known[T0] == T0 + DAY + timedelta(hours=6)


def test_what_a_source_sends_makes_no_long_failure(tmp_path: Path) -> None:
    stranger = Reply({"data": [{"asset": "X" * 900_000, "time": "2024-01-02", "m": "1"}]})
    with WebService(stranger) as odd, WebService(chart(T0)) as good:
        report = job.run(real(tmp_path, coinmetrics=odd.url, blockchain=good.url), as_of=NOW, start=T0)
    assert len(report.failures) == 1
    assert "no field 'XXX" in report.failures[0]
    assert len(report.failures[0]) < 400


def test_a_source_that_fails_hinders_no_other(tmp_path: Path) -> None:
    with WebService(chart(T0)) as good, WebService(Reply(b"", 500)) as bad:
        told = real(tmp_path, blockchain=good.url, glassnode=bad.url)
        report = job.run(told, as_of=NOW, keys=KEYS, start=T0)
    assert len(report.failures) == 1
    assert raw(told, "onchain")["source"].to_list() == ["blockchain"]


def test_where_every_source_fails_the_job_does_and_events_are_kept_all_the_same(tmp_path: Path) -> None:
    with WebService(Reply(b"", 500)) as bad, pytest.raises(VenueError, match="no source could be read"):
        job.run(real(tmp_path, blockchain=bad.url), as_of=NOW)
    assert not raw(real(tmp_path), "events").is_empty()


def test_a_users_own_calendar_comes_first_and_a_wrong_one_leaves_the_lake_untouched(tmp_path: Path) -> None:
    told, folder = real(tmp_path), tmp_path / "conf" / "events"
    folder.mkdir(parents=True)
    mine = {"name": "unlock", "source": "me", "importance": 1, "time": "14:00", "zone": "UTC"}
    (folder / "mine.yaml").write_text(yaml.safe_dump({**mine, "dates": {2024: ["2024-13-01"]}}))
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        job.run(told, as_of=NOW)
    assert not (tmp_path / "data").exists()
    (folder / "mine.yaml").write_text(yaml.safe_dump({**mine, "dates": {2024: ["2024-02-01", "2024-03-01"]}}))
    job.run(told, as_of=NOW)
    (folder / "mine.yaml").write_text(yaml.safe_dump({**mine, "dates": {2024: ["2024-03-01"]}}))
    job.run(told, as_of=NOW + DAY)
    now = open_lake(told).read("raw", "events", as_of=NOW + DAY).collect()
    assert now.select(pl.col("ts").dt.month(), "importance").rows() == [(2, 0), (3, 1)]


def test_a_date_that_is_added_to_a_followed_calendar_shows_at_no_instant_before(tmp_path: Path) -> None:
    told, folder = real(tmp_path), tmp_path / "conf" / "events"
    folder.mkdir(parents=True)
    mine = {"name": "unlock", "source": "me", "importance": 1, "time": "14:00", "zone": "UTC"}
    for now, dates in ((NOW, ["2024-03-01"]), (NOW + DAY, ["2024-02-01", "2024-03-01"])):
        (folder / "mine.yaml").write_text(yaml.safe_dump({**mine, "dates": {2024: dates}}))
        job.run(told, as_of=now)
    for again in (NOW, NOW + 2 * DAY):
        assert job.run(told, as_of=again).rows[-1]["added"] == 0
    known = [open_lake(told).read("raw", "events", as_of=now).collect()["ts"].dt.month() for now in (NOW, NOW + DAY)]
    assert [months.to_list() for months in known] == [[3], [2, 3]]


def test_keys_come_from_the_environment_and_blank_ones_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OIHEDGE_GLASSNODE_KEY", f" {KEY}\n")
    monkeypatch.setenv("OIHEDGE_SANTIMENT_KEY", "  ")
    for name in ("CRYPTOQUANT", "LUNARCRUSH"):
        monkeypatch.delenv(f"OIHEDGE_{name}_KEY", raising=False)
    keys = job.keys_from_environment()
    assert {name: key.get_secret_value() for name, key in keys.items()} == {"glassnode": KEY}
    assert KEY not in repr(keys)
