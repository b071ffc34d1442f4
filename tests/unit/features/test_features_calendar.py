"""Known-future columns: the same for an instant wherever the rows come from, and only of dates published in time."""

import functools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oihedge.config import EVENTS_KNOWN, MOST_EVENT_HORIZON_H, load
from oihedge.core.errors import ConfigError
from oihedge.features.build import columns
from oihedge.features.calendar import EVENT_REACH_H, event_columns, with_calendar
from oihedge.features.settings import Features

HOUR = timedelta(hours=1)
AT = datetime(2025, 3, 10, tzinfo=UTC)
CALENDAR = """name: {name}
source: example.org
importance: 3
time: "12:30"
zone: UTC
dates:
  2025: [2025-03-12, 2025-01-04]
known:
  2025: 2024-12-31
moved:
  - {{"on": 2025-03-14, known: 2025-03-10}}
  - {{"on": 2025-03-20, known: 2025-03-12}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_home(tmp_path_factory.mktemp("home"))


def own_home(tmp_path: Path) -> Path:
    (tmp_path / "conf/events").mkdir(parents=True)
    (tmp_path / "conf/events/own.yaml").write_text(CALENDAR.format(name="own"))
    (tmp_path / "conf/events/other.yaml").write_text(CALENDAR.format(name="other").replace("12:30", "06:00"))
    return tmp_path


@functools.cache
def settings(home: Path, *overrides: str) -> Features:
    return load(["features.events=[own]", *overrides], home=home).features


def rows(hours: range, assets: tuple[str, ...] = ("BTC",)) -> pl.LazyFrame:
    stamps = [AT + HOUR * k for k in hours]
    frame = pl.DataFrame({"asset": [a for a in assets for _ in stamps], "ts": stamps * len(assets)})
    return frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC"))).lazy()


def test_what_must_be_known_before_an_event_covers_reach_and_horizon():
    assert timedelta(hours=EVENT_REACH_H + MOST_EVENT_HORIZON_H) == EVENTS_KNOWN


def test_only_dates_published_a_week_before_count(home):
    told = settings(home).event_times["own"]
    assert [f"{at:%m-%d %H:%M}" for at in told] == ["03-12 12:30", "03-20 12:30"]
    assert all(at - EVENTS_KNOWN >= datetime(2025, 1, 1, tzinfo=UTC) for at in told), "04 January was known too late"
    both = settings(home, "features.events=[own,other]").event_times
    assert {name: len(times) for name, times in both.items()} == {"own": 2, "other": 2}


def test_hours_to_and_since_the_nearest_event(home):
    chosen = settings(home)
    found = with_calendar(rows(range(24 * 12)), chosen).collect()
    told = {row["ts"]: (row["hours_to_own"], row["hours_since_own"]) for row in found.iter_rows(named=True)}
    assert told[AT] == (60.5, EVENT_REACH_H)
    assert told[datetime(2025, 3, 12, 12, tzinfo=UTC)] == (0.5, EVENT_REACH_H)
    assert told[datetime(2025, 3, 12, 13, tzinfo=UTC)] == (EVENT_REACH_H, 0.5)
    assert told[datetime(2025, 3, 16, 13, tzinfo=UTC)] == (EVENT_REACH_H, EVENT_REACH_H), "a week is told by neither"
    assert told[datetime(2025, 3, 17, 12, tzinfo=UTC)] == (72.0, 72.0)
    exact = chosen.model_copy(update={"event_times": {"own": (AT + HOUR,)}})
    at = with_calendar(rows(range(1, 2)), exact).collect().row(0, named=True)
    assert (at["hours_to_own"], at["hours_since_own"]) == (0.0, 0.0)


def test_an_instants_columns_do_not_depend_on_the_rows_around_it(home):
    chosen = settings(home)
    long = with_calendar(rows(range(200), ("ETH", "BTC")), chosen).collect()
    short = with_calendar(rows(range(150, 151)), chosen).collect()
    same = long.filter(pl.col("ts") == short["ts"][0]).select(columns(chosen).known).unique()
    assert same.rows() == short.select(columns(chosen).known).rows()


def test_no_name_of_an_event_but_the_refused_one_makes_a_column_that_is_there_already(home):
    named = {name for name in columns(settings(home, "features.events=[]")).all if name.startswith("hours_")}
    assert named == {event_columns("funding")[0]}


def test_without_events_there_are_no_such_columns(home):
    plain = settings(home, "features.events=[]")
    assert not set(event_columns("own")) & {
        *columns(plain).known,
        *with_calendar(rows(range(2)), plain).collect().columns,
    }
    assert columns(settings(home)).known[-2:] == event_columns("own")
    assert columns(settings(home, "features.events=[other,own]")).known[-4:-2] == event_columns("other")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["features.events=[fomc]"], "fomc"),
        (["features.events=[own,own]"], "names one twice"),
        (["features.events=[funding]"], "events names funding, whose column hours_to_funding is the funding clock"),
        (["features.events=[]", '+features.event_times={own: ["2025-01-01T00:00:00Z"]}'], "features.events"),
        ([f"forecast.horizon_h={MOST_EVENT_HORIZON_H + 1}", "evaluation.purge_h=200"], "horizon_h"),
    ],
)
def test_what_cannot_be_known_is_refused(home, overrides, said):
    with pytest.raises(ConfigError, match=said):
        settings(home, *overrides)


def test_the_settings_digest_tells_which_dates_were_known(tmp_path):
    home = own_home(tmp_path)
    before = load(["features.events=[own]"], home=home).hash
    path = home / "conf/events/own.yaml"
    path.write_text(path.read_text().replace("2025-03-12,", "2025-03-13,"))
    assert load(["features.events=[own]"], home=home).hash != before
    assert load([], home=home).hash == load([], home=Path(home.parent)).hash, "calendars nobody named change nothing"


def test_a_calendar_nobody_named_may_be_broken(tmp_path):
    home = own_home(tmp_path)
    (home / "conf/events/broken.yaml").write_text("name: broken\n")
    assert settings(home).event_times["own"]
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        settings(home, "features.events=[broken]")
