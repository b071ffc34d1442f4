"""The lake on S3: the same code against a real S3-speaking server on loopback."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oihedge.config import Config, load
from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import DEPTH, FUNDING, OPTION_CHAIN, TABLES, UTC_TIME
from oihedge.jobs import maintain
from oihedge.jobs.opening import open_lake
from oihedge.lake.settings import S3
from oihedge.lake.storage import one_line
from oihedge.lake.store import Appended, Lake

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        importlib.util.find_spec("moto") is None, reason="moto, the S3-speaking server of these tests, is not installed"
    ),
]
NOW = datetime(2025, 2, 1, tzinfo=UTC)
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECRET = "s3cr3t-of-the-tests"
BUCKET = "oihedge-test"
_fresh = count()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server of its own port with one empty bucket, stopped by its process handle."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=5).close()
                    break
                except urllib.error.URLError:
                    assert server.poll() is None, "the S3 server did not start"
                    time.sleep(0.1)
            yield url
        finally:
            server.terminate()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def root() -> str:
    return f"s3://{BUCKET}/lake-{next(_fresh)}"


@pytest.fixture
def config(endpoint: str, root: str, tmp_path: Path) -> Config:
    s3 = [f"lake.root={root}", f"lake.s3.endpoint={endpoint}", "lake.s3.allow_http=true"]
    return load(["lake=s3", *s3], home=tmp_path)


@pytest.fixture
def lake(config: Config) -> Lake:
    return open_lake(config)


def rows(*rates: float, first: datetime = FIRST) -> pl.DataFrame:
    keys = {"venue": "bybit", "symbol": "BTC", "asset": "BTC", "interval_h": 8.0}
    stamped = [
        {**keys, "ts": first + i * HOUR, "rate": r, "available_at": first + i * HOUR} for i, r in enumerate(rates)
    ]
    return pl.DataFrame(stamped, schema={**FUNDING.columns, "available_at": UTC_TIME})


def depth(*bids: float) -> pl.DataFrame:
    names = ("bid", "ask", "bid_usd_10", "ask_usd_10", "bid_usd_50", "ask_usd_50")
    made = rows(*bids).drop("interval_h").rename({"rate": "bid"}).with_columns(kind=pl.lit("perp"))
    made = made.with_columns(pl.col("ts", "available_at").dt.offset_by("20d"))
    return made.with_columns([pl.col("bid").alias(name) for name in names[1:]]).select(*DEPTH.columns, "available_at")


def test_append_revise_and_read_as_of_and_by_version(lake: Lake) -> None:
    assert lake.append("raw", "funding", rows(0.1, 0.2), now=NOW) == Appended(2, 0)
    assert lake.append("raw", "funding", rows(0.1, 0.2), now=NOW) == Appended(0, 0)
    assert lake.append("raw", "funding", rows(0.3, 0.2), now=NOW + HOUR) == Appended(1, 1)
    assert lake.read("raw", "funding", as_of=NOW).collect()["rate"].to_list() == [0.1, 0.2]
    assert lake.read("raw", "funding").collect()["rate"].to_list() == [0.3, 0.2]
    assert lake.read("raw", "funding", version=0).collect()["rate"].to_list() == [0.1, 0.2]
    with pytest.raises(DataError, match="has no version 2"):
        lake.read("raw", "funding", version=2)
    assert lake.inventory()["rows"].to_list() == [3]


def test_a_table_in_monthly_folders_is_read_by_day_from_one_file(lake: Lake) -> None:
    lake.append("raw", "depth", depth(*(float(i) for i in range(24 * 30))), now=NOW + timedelta(days=40))
    day = datetime(2025, 2, 3, tzinfo=UTC)
    read = lake.read("raw", "depth", start=day, end=day + timedelta(days=1))
    assert read.explain().count("month=202502") == 1
    assert "month=202501" not in read.explain()
    assert read.collect()["ts"].to_list() == [day + i * HOUR for i in range(24)]
    assert read.collect_schema() == TABLES["depth"].schema


WRITES = st.lists(
    st.tuples(st.integers(0, 12), st.lists(st.sampled_from([0.1, 0.2, None]), min_size=1, max_size=4)),
    min_size=1,
    max_size=3,
)


@pytest.mark.long
@given(WRITES, st.integers(0, 12))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_known_at_an_instant_does_not_depend_on_what_comes_later(endpoint, writes, hour) -> None:
    address = f"s3://{BUCKET}/lake-{next(_fresh)}"
    lake = Lake(address, simulated=True, s3=S3(endpoint=endpoint, region="us-east-1", allow_http=True))
    for at, values in writes:
        lake.append("raw", "onchain", _metric(values, available=FIRST + at * HOUR), now=FIRST + at * HOUR)
    as_of = FIRST + hour * HOUR
    seen = lake.read("raw", "onchain", as_of=as_of).collect()
    lake.append("raw", "onchain", _metric([9.0] * 4, available=FIRST), now=FIRST + 13 * HOUR)
    again = lake.read("raw", "onchain", as_of=as_of).collect()
    assert again.join(seen, on=["source", "asset", "metric", "ts"], how="semi").equals(seen)


def _metric(values: list[float | None], *, available: datetime) -> pl.DataFrame:
    made = [
        {"source": "s", "asset": "BTC", "metric": "m", "unit": None, "ts": FIRST + i * HOUR, "value": v}
        for i, v in enumerate(values)
    ]
    stamped = [{**row, "available_at": available} for row in made]
    return pl.DataFrame(stamped, schema={**TABLES["onchain"].columns, "available_at": UTC_TIME})


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
import polars as pl
from oihedge.lake.settings import S3
from oihedge.lake.storage import one_line
from oihedge.lake.store import Lake

root, endpoint, simulated = sys.argv[1], sys.argv[2], sys.argv[3] == "simulated"
now = datetime(2025, 2, 1, tzinfo=UTC)
lake = Lake(root, simulated=simulated, s3=S3(endpoint=endpoint, region="us-east-1", allow_http=True))
print("ready", flush=True)
sys.stdin.readline()
for number in range(5):
    ts = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=100 * number + i) for i in range(100)]
    rows = pl.DataFrame({"ts": ts, "available_at": ts}).with_columns(
        venue=pl.lit("bybit"), symbol=pl.lit("BTC"), asset=pl.lit("BTC"), rate=pl.lit(0.1), interval_h=pl.lit(8.0))
    print(lake.append("raw", "funding", rows, now=now).added, flush=True)
"""


def race(root: str, endpoint: str, *kinds: str) -> list[tuple[int, list[str], str]]:
    """Start a writer of each kind, let them go at once, and return exit code, lines and errors of each."""
    command = [sys.executable, "-c", WRITER, root, endpoint]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, kind], **pipes) for kind in kinds]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n", writer.stderr.read()
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    told = [writer.communicate(timeout=120) for writer in writers]
    return [(writer.returncode, out.split(), err) for writer, (out, err) in zip(writers, told, strict=True)]


def test_two_processes_that_write_the_same_rows_at_once_never_write_them_twice(lake: Lake, root, endpoint) -> None:
    told = race(root, endpoint, "simulated", "simulated")
    assert [code for code, _, _ in told] == [0, 0], told
    assert sum(int(added) for _, lines, _ in told for added in lines) == 500
    stored = lake.rows("raw", "funding").collect()
    assert stored.height == 500
    assert stored["ts"].is_unique().all()


@pytest.mark.long
def test_of_two_markets_that_start_one_lake_at_once_only_one_gets_it(root, endpoint) -> None:
    told = race(root, endpoint, "simulated", "real")
    assert sorted(code for code, _, _ in told) == [0, 1]
    assert "are never mixed" in next(err for code, _, err in told if code).splitlines()[-1]
    held = Lake(root, simulated=told[0][0] == 0, s3=S3(endpoint=endpoint, region="us-east-1", allow_http=True))
    assert held.rows("raw", "funding").collect().height == 500


def test_upkeep_merges_and_vacuums_and_a_vacuumed_version_is_one_clear_line(lake: Lake, config: Config) -> None:
    for number in range(6):
        lake.append("raw", "depth", depth(*range(number + 1)), now=NOW + timedelta(days=40))
    report = maintain.run(config, as_of=NOW)
    assert [(row["table"], row["files_before"], row["files_after"]) for row in report.tables] == [("raw/depth", 6, 1)]
    assert lake.read("raw", "depth", version=2).collect().height == 3
    ahead = datetime.now(UTC) + 2 * HOUR
    kept = lake.keep_up("raw", "depth", keep=timedelta(0), needed=[2], now=ahead)
    assert kept.removed == 3
    assert lake.read("raw", "depth", version=2).collect().height == 3
    with pytest.raises(
        DataError, match=r"version 3 of lake table .* was vacuumed; expected .*; got .*; read"
    ) as caught:
        lake.read("raw", "depth", version=3)
    assert "\n" not in str(caught.value)
    assert lake.read("raw", "depth").collect().height == 6


def test_settings_hold_no_credentials_and_hash_the_same_without_them(config: Config, monkeypatch) -> None:
    dumped = json.dumps(config.model_dump(mode="json"))
    assert SECRET not in dumped
    assert "the-tests" not in dumped
    before = config.hash
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert config.hash == before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (f"lake.root=s3://key:{SECRET}@bucket/lake", "s3://bucket/prefix"),
        (f"lake.root='s3://bucket/lake?secret={SECRET}'", "s3://bucket/prefix"),
        ("lake.root=gs://bucket/lake", "s3://bucket/prefix"),
        (f"lake.s3.endpoint=http://user:{SECRET}@127.0.0.1", "without user, password"),
        ("lake.s3.endpoint=http://127.0.0.1:1", "allow_http"),
        (f"+lake.s3.secret={SECRET}", "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_are_refused_without_repeating_a_secret(override, said, tmp_path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(["lake=s3", override], home=tmp_path)
    assert SECRET not in str(caught.value)


def test_a_folder_setting_cannot_name_s3_without_its_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lake=s3"):
        load(["lake.root=s3://bucket/lake"], home=tmp_path)


def test_no_credentials_a_missing_bucket_and_a_silent_server_are_each_one_line(endpoint, monkeypatch, capfd) -> None:
    store = S3(endpoint=endpoint, region="us-east-1", allow_http=True)
    with pytest.raises(ConfigError, match="cannot be reached") as missing:
        Lake("s3://no-such-bucket/lake", simulated=True, s3=store)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="no S3 credentials in the environment") as bare:
        Lake(f"s3://{BUCKET}/lake", simulated=True, s3=store)
    for error in (missing, bare):
        assert "\n" not in str(error.value)
        assert "\x1b" not in str(error.value)
        assert SECRET not in str(error.value)
    assert SECRET not in "".join(capfd.readouterr())


def test_a_refusal_that_repeats_the_credentials_is_told_without_them() -> None:
    told = one_line(OSError(f"Generic S3 error\n  ↳ 403 <AWSAccessKeyId>the-tests</AWSAccessKeyId> {SECRET}"))
    assert told == "Generic S3 error 403 <AWSAccessKeyId>***</AWSAccessKeyId> ***"


@pytest.mark.long
def test_every_option_chain_row_comes_back_as_it_went_in(lake: Lake) -> None:
    text = {"venue": "deribit", "symbol": "BTC-1", "asset": "BTC", "option_type": "call"}
    values = {name: 1.5 for name, dtype in OPTION_CHAIN.columns.items() if dtype == pl.Float64}
    made = pl.DataFrame(
        [{**text, **values, "ts": FIRST, "expiry": NOW, "theta": None, "available_at": FIRST}],
        schema={**OPTION_CHAIN.columns, "available_at": UTC_TIME},
    )
    lake.append("validated", "option_chain", made, now=NOW)
    assert lake.read("validated", "option_chain", as_of=NOW).drop("ingested_at").collect().equals(made)
