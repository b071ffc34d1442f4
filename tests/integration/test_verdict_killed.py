"""A promotion or rollback killed with -9 between the ledger and the alias, or on a full disk: who serves then."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oihedge.config import Config, load
from oihedge.core.clock import iso
from oihedge.evaluation.gates import REQUIRED
from oihedge.jobs import hedge, promote, rollback
from oihedge.jobs.opening import open_registry
from oihedge.registry.client import Registry
from oihedge.registry.versions import ensure_model, model_ref

AS_OF = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KILLED = """
import os, signal, sys
from oihedge.cli import main
from oihedge.registry.client import Registry

Registry._put_in_service = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main())
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A home in which version 1 is champion."""
    made = load([f"run.as_of='{iso(AS_OF)}'"], home=tmp_path)
    challenge(made, "")
    assert promote.run(made, as_of=AS_OF).champion == "1"
    return made


def challenge(config: Config, champion: str) -> None:
    """Register a challenger whose every gate held against `champion`."""
    registry, name = open_registry(config), config.registry.model_name
    gates = [{"name": gate, "value": 1.0, "threshold": 0.0, "rule": "", "passed": True} for gate in sorted(REQUIRED)]
    with registry.run("held") as run:
        run.json("gates.json", {"passed": True, "champion": champion, "gates": gates})
        ensure_model(registry._client, name)
        source, tags = f"runs:/{run.run_id}/model", {"as_of": iso(AS_OF)}
        made = registry._client.create_model_version(name, source, run_id=run.run_id, tags=tags)
    registry.set_alias("challenger", model_ref(made))


def kill(config: Config, verb: str) -> None:
    command = [sys.executable, "-c", KILLED, verb, "--home", str(config.home)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL


def alias(registry: Registry) -> str:
    found = registry._by_alias("champion")
    return found.version if found else ""


def verdicts(registry: Registry) -> list[tuple[str, str]]:
    return [(row["verdict"], row["version"]) for row in registry.ledger()]


def test_a_killed_promotion_decides_and_the_next_one_completes_it(config: Config) -> None:
    challenge(config, "1")
    kill(config, "promote")
    registry = open_registry(config)
    assert alias(registry) == "1"
    model, reason = hedge._model(config, AS_OF + MINUTE)
    assert (model and model["version"], reason) == ("2", "")
    told = promote.run(config, as_of=AS_OF + MINUTE)
    assert (told.promoted, told.champion, told.reason) == (True, "2", "is already the champion")
    assert (alias(registry), verdicts(registry)) == ("2", [("promoted", "1"), ("promoted", "2")])


def test_a_challenger_after_a_killed_promotion_is_judged_beside_the_version_in_line(config: Config) -> None:
    challenge(config, "1")
    kill(config, "promote")
    challenge(config, "1")
    told = promote.run(config, as_of=AS_OF + MINUTE)
    assert (told.promoted, told.champion, told.reason) == (False, "2", "was judged against another champion: retrain")
    challenge(config, "2")
    assert promote.run(config, as_of=AS_OF + MINUTE).champion == alias(open_registry(config)) == "4"


def test_a_killed_rollback_decides_and_asked_again_it_goes_no_further_back(config: Config) -> None:
    for champion in ("1", "2"):
        challenge(config, champion)
        promote.run(config, as_of=AS_OF)
    kill(config, "rollback")
    registry = open_registry(config)
    assert alias(registry) == "3"
    model, reason = hedge._model(config, AS_OF + MINUTE)
    assert (model and model["version"], reason) == ("2", "")
    told = rollback.run(config, as_of=AS_OF + MINUTE, reason="asked again")
    assert (told.champion, alias(registry)) == ("2", "2")
    assert verdicts(registry)[3:] == [("rolled_back", "2")]
    assert rollback.run(config, as_of=AS_OF + 2 * MINUTE, reason="further back").champion == "1"


def test_a_promotion_after_a_killed_rollback_completes_it_first(config: Config) -> None:
    challenge(config, "1")
    promote.run(config, as_of=AS_OF)
    kill(config, "rollback")
    told = promote.run(config, as_of=AS_OF + MINUTE)
    assert (told.promoted, told.champion, told.reason) == (False, "1", "was rolled back: retrain")
    assert alias(open_registry(config)) == "1"


FULL = """
import resource, sys
from oihedge.cli import main

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.exit(main())
"""


def test_a_promotion_on_a_full_disk_is_one_line_and_the_champion_stays(config: Config) -> None:
    challenge(config, "1")
    command = [sys.executable, "-c", FULL, "promote", "--home", str(config.home)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    (line,) = told.stderr.splitlines()
    assert line.startswith("oihedge: unexpected MlflowException: ")
    assert (
        "OperationalError: disk I/O error; traceback: not kept ([Errno 27] File too large); see it with --debug" in line
    )
    assert (told.returncode, told.stdout) == (1, "")
    registry = open_registry(config)
    assert (alias(registry), verdicts(registry)) == ("1", [("promoted", "1")])
    assert promote.run(config, as_of=AS_OF).champion == "2"
