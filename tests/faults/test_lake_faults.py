"""The lake under concurrent writers, kill -9 and damaged files: real processes on real tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oihedge.core.errors import DataError, OihedgeError
from oihedge.lake.store import Lake

NOW = datetime(2025, 2, 1, tzinfo=UTC)
ROWS, BATCHES = 500, 6

WRITER = f"""
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import polars as pl
from oihedge.lake.store import Lake

def batch(number):
    first = datetime(2025, 1, 1, tzinfo=UTC) + number * timedelta(minutes={ROWS})
    ts = pl.datetime_range(first, first + timedelta(minutes={ROWS} - 1), "1m", time_unit="us", eager=True)
    return pl.DataFrame({{"ts": ts, "available_at": ts}}).with_columns(
        venue=pl.lit("bybit"), symbol=pl.lit("BTC"), asset=pl.lit("BTC"), interval_h=pl.lit(8.0),
        rate=(pl.int_range(pl.len()) * 0.7 + number).sin())  # numbers that do not compress

def write(root):
    lake = Lake(Path(root), simulated=True)
    for number in range({BATCHES}):
        done = lake.append("raw", "funding", batch(number), now=datetime(2025, 2, 1, tzinfo=UTC))
        print(number, done.added, flush=True)
"""

KILLED_BEFORE_COMMIT = """
import os, signal, threading, time

def watch(table, files):
    while len(list(table.glob("*.parquet"))) < files:
        time.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)

root, files = sys.argv[1], int(sys.argv[2])
threading.Thread(target=watch, args=(Path(root) / "raw" / "funding", files), daemon=True).start()
write(root)
"""

FULL_DISK = """
import resource
lake = Lake(Path(sys.argv[1]), simulated=True)
now = datetime(2025, 2, 1, tzinfo=UTC)
lake.append("raw", "funding", batch(0), now=now)
resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
try:
    lake.append("raw", "funding", batch(1), now=now)
except Exception:
    print("refused", flush=True)
    raise
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(root: Path) -> str:
    process = start("write(sys.argv[1])", root)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def complete(root: Path) -> None:
    rows = Lake(root, simulated=True).rows("raw", "funding").collect()
    assert rows.height == ROWS * BATCHES
    assert rows.select("ts").is_unique().all()


def whole_batches(root: Path) -> int:
    rows = Lake(root, simulated=True).rows("raw", "funding").collect()
    assert rows.height % ROWS == 0, "a killed append leaves all of its rows or none"
    assert rows.select("ts").is_unique().all()
    return rows.height // ROWS


@pytest.mark.parametrize("files", [1, 3])
def test_an_append_killed_between_data_and_commit_leaves_no_trace_and_a_rerun_completes(tmp_path, files):
    process = start(KILLED_BEFORE_COMMIT, tmp_path, files)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    told = len(out.splitlines())
    assert told <= whole_batches(tmp_path) <= told + 1, "what was reported as written is there"
    finish(tmp_path)
    complete(tmp_path)


def test_a_writer_killed_at_any_moment_leaves_whole_batches_and_frees_its_lock(tmp_path):
    process = start("write(sys.argv[1])", tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert whole_batches(tmp_path) >= 1
    finish(tmp_path)
    complete(tmp_path)


def test_two_processes_appending_the_same_rows_leave_no_duplicate(tmp_path):
    both = [start("write(sys.argv[1])", tmp_path) for _ in range(2)]
    told = []
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        told += [int(line.split()[1]) for line in out.splitlines()]
    complete(tmp_path)
    assert sum(told) == ROWS * BATCHES
    assert Lake(tmp_path, simulated=True).version("raw", "funding") == BATCHES - 1


def rows(rate: float) -> pl.DataFrame:
    ts = datetime(2025, 1, 1, tzinfo=UTC)
    named = {"venue": "bybit", "symbol": "BTC", "asset": "BTC", "rate": rate, "interval_h": 8.0}
    return pl.DataFrame([{**named, "ts": ts, "available_at": ts}])


def test_a_damaged_log_is_one_clear_line(tmp_path):
    lake = Lake(tmp_path, simulated=True)
    lake.append("raw", "funding", rows(0.1), now=NOW)
    (tmp_path / "raw" / "funding" / "_delta_log" / f"{0:020}.json").write_text("not json\n")
    with pytest.raises(DataError, match="is damaged") as caught:
        lake.read("raw", "funding")
    assert "\n" not in str(caught.value)


def test_a_full_disk_refuses_the_append_and_leaves_the_table_as_it_was(tmp_path):
    process = start(FULL_DISK, tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "OihedgeError: lake table" in err
    assert "could not be written" in err.splitlines()[-1]
    assert whole_batches(tmp_path) == 1
    assert out == "refused\n"
    finish(tmp_path)
    complete(tmp_path)


SMALL_FILES = """
import os, resource, signal, threading, time
from datetime import UTC, datetime, timedelta
lake = Lake(Path(sys.argv[1]), simulated=True)
table = Path(sys.argv[1]) / "raw" / "funding"
tidy = lambda: lake.keep_up("raw", "funding", keep=timedelta(days=1), now=datetime.now(UTC))
"""

FULL_DISK_WHILE_MERGING = """
resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
tidy()
"""

FULL_DISK_WHILE_AN_APPEND_MERGES = """
lake = Lake(Path(sys.argv[1]), simulated=True, compact_after_files=1)
largest = max(file.stat().st_size for file in table.glob("*.parquet"))
resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 2000, largest + 2000))
done = lake.append("raw", "funding", batch(6), now=datetime(2025, 2, 1, tzinfo=UTC))
print(done.added, flush=True)
"""

KILLED_WHILE_MERGING = """
def watch(files):
    while len(list(table.glob("*.parquet"))) <= files:
        time.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, args=(len(list(table.glob("*.parquet"))),), daemon=True).start()
tidy()
time.sleep(60)  # the watcher has seen the merged file, and kills
"""


def test_a_full_disk_while_merging_is_one_clear_error_and_loses_nothing(tmp_path):
    finish(tmp_path)
    process = start(SMALL_FILES + FULL_DISK_WHILE_MERGING, tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "could not be tidied up" in err.splitlines()[-1]
    assert "no row was lost; run again" in err.splitlines()[-1]
    complete(tmp_path)
    lake = Lake(tmp_path, simulated=True)
    assert lake.keep_up("raw", "funding", keep=timedelta(days=1), now=datetime.now(UTC)).files_after == 1
    complete(tmp_path)


def test_a_disk_too_full_for_merging_does_not_refuse_an_append_that_fits(tmp_path):
    finish(tmp_path)
    process = start(SMALL_FILES + FULL_DISK_WHILE_AN_APPEND_MERGES, tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{ROWS}\n"), err
    assert whole_batches(tmp_path) == BATCHES + 1
    opened = Lake(tmp_path, simulated=True)._storage.open("raw", "funding")
    assert opened is not None
    assert len(opened.file_uris()) == BATCHES + 1, "the merge was refused"


def test_a_merge_killed_half_way_changes_nothing_and_a_rerun_completes_it(tmp_path):
    finish(tmp_path)
    before = Lake(tmp_path, simulated=True).version("raw", "funding")
    process = start(SMALL_FILES + KILLED_WHILE_MERGING, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    complete(tmp_path)
    assert Lake(tmp_path, simulated=True).version("raw", "funding") in (before, before + 1)
    lake = Lake(tmp_path, simulated=True)
    assert lake.keep_up("raw", "funding", keep=timedelta(days=1), now=datetime.now(UTC)).files_after == 1
    complete(tmp_path)


def test_an_append_beside_a_merge_loses_and_doubles_nothing(tmp_path):
    both = [
        start("write(sys.argv[1])", tmp_path),
        start(
            SMALL_FILES + "\nwhile lake.version('raw', 'funding') is None:\n    pass\nfor _ in range(10):\n    tidy()",
            tmp_path,
        ),
    ]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    complete(tmp_path)


def test_a_commit_that_fails_though_nobody_else_wrote_is_one_clear_error_at_once(tmp_path):
    lake = Lake(tmp_path, simulated=True)
    lake.append("raw", "funding", rows(0.1), now=NOW)
    in_the_way = tmp_path / "raw" / "funding" / "_delta_log" / f"{1:020}.json"
    in_the_way.mkdir()
    with pytest.raises(OihedgeError, match=r"could not be written; got .*; nothing was changed; run again"):
        lake.append("raw", "funding", rows(0.2), now=NOW + timedelta(hours=1))
    assert lake.read("raw", "funding").collect()["rate"].to_list() == [0.1]
    in_the_way.rmdir()
    assert lake.append("raw", "funding", rows(0.2), now=NOW + timedelta(hours=1)).added == 1


def test_an_orphan_of_a_killed_append_is_not_read(tmp_path):
    lake = Lake(tmp_path, simulated=True)
    lake.append("raw", "funding", rows(0.1), now=NOW)
    rows(0.9).write_parquet(tmp_path / "raw" / "funding" / "part-00000-orphan.parquet")
    assert lake.rows("raw", "funding").collect()["rate"].to_list() == [0.1]
    assert lake.append("raw", "funding", rows(0.2), now=NOW + timedelta(hours=1)).added == 1
