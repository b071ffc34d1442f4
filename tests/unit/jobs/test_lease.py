"""One live process per piece of work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oihedge.config import Config, load
from oihedge.core.errors import BusyError
from oihedge.jobs.lease import lease

HOLD = """
import sys
from pathlib import Path
from oihedge.config import load
from oihedge.jobs.lease import lease
with lease(load(home=Path(sys.argv[1])), "ingest", doing="a long ingest"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(home=tmp_path)


@pytest.fixture
def holder(config: Config):  # type: ignore[no-untyped-def]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(config.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_holder_is_told_who_has_it(config: Config, holder: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(BusyError, match=f"process {holder.pid} \\(a long ingest\\)"),
        lease(config, "ingest", doing="me"),
    ):
        pass


def test_kill_9_frees_the_lease(config: Config, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with lease(config, "ingest", doing="me"):
        pass


def test_other_work_and_other_homes_are_free(config: Config, holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with lease(config, "hedge", doing="me"), lease(load(home=tmp_path / "other"), "ingest", doing="me"):
        assert holder.poll() is None


def test_the_lease_comes_back_after_an_error(config: Config) -> None:
    with pytest.raises(RuntimeError), lease(config, "ingest", doing="me"):
        raise RuntimeError
    with lease(config, "ingest", doing="me"):
        pass
