"""Whole processes: killed half-way and run again, put on schedules, started from Prefect's own API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oihedge.config import load
from oihedge.jobs.opening import open_lake
from oihedge.servers.prefect import prefect_server

OIHEDGE = (sys.executable, "-c", "import sys; from oihedge.cli import main; sys.exit(main())")
TABLES = ("ohlcv", "open_interest", "funding")
PATIENCE_S = 480
EVERY_MINUTE = """# @package _global_
run: {name: small, history_days: 20}
forecast: {model: persistence}
schedule: {ingest: "0 0 1 1 *", validation: "* * * * *", retrain: "0 0 1 1 *", hedge: "0 0 1 1 *"}
"""

pytestmark = pytest.mark.long


def rows(home: Path, experiment: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Per layer and table: all rows, and rows with a key of their own."""
    lake = open_lake(load(experiment=str(experiment), home=home))
    found = {}
    for layer in ("raw", "validated"):
        for name in TABLES:
            found[layer, name] = (lake.rows(layer, name).collect().height, lake.read(layer, name).collect().height)
    return found


def run_until(step: str, home: Path, experiment: Path) -> None:
    """Start a cycle and kill -9 it a little after it began `step`."""
    command = [*OIHEDGE, "cycle", "-e", str(experiment), "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as cycle:
        assert cycle.stderr is not None
        for line in cycle.stderr:
            if line.strip() == f"- {step}":
                break
        time.sleep(1.5)
        os.kill(cycle.pid, signal.SIGKILL)


def test_a_cycle_killed_in_any_step_completes_when_run_again_without_a_row_too_many(
    tmp_path: Path, small_experiment: Path
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for step in ("ingest", "validate", "retrain", "promote", "hedge", "report"):
        run_until(step, killed, small_experiment)
    for home in (killed, whole):
        command = [*OIHEDGE, "cycle", "-e", str(small_experiment), "--home", str(home), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["hedge"]["decision"]["simulated"] is True
    after = rows(killed, small_experiment)
    assert after == rows(whole, small_experiment)
    assert all(total == distinct > 0 for total, distinct in after.values())
    assert (killed / "targets" / "latest.json").read_bytes() == (whole / "targets" / "latest.json").read_bytes()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of an `oihedge serve`; SIGTERM at the end stops it cleanly."""
    home = tmp_path_factory.mktemp("served")
    experiment = home / "every_minute.yaml"
    experiment.write_text(EVERY_MINUTE)
    command = [*OIHEDGE, "serve", "-e", str(experiment), "--home", str(home)]
    with (home / "serve.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as serve:
        url = eventually(lambda: prefect_server(home).url())
        yield f"{url}/api"
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(90) == 0, (home / "serve.log").read_text()
    assert prefect_server(home).url() is None


def eventually(look: Any) -> Any:
    """Return the first truthy answer of `look`, asked until patience ends."""
    until = time.monotonic() + PATIENCE_S
    while not (answer := look()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.5)
    return answer


def ask(url: str, body: Any, method: str = "POST") -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.loads(answer.read() or "null")


def deployment(api: str, flow: str) -> Any:
    found = eventually(lambda: ask(f"{api}/deployments/filter", {"flows": {"name": {"any_": [flow]}}}))
    return found[0]


def runs(api: str, flow: str) -> Any:
    """The flow's completed runs; one that failed instead ends the wait with its own message."""
    found = ask(f"{api}/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})
    failed = [run["state"]["message"] for run in found if run["state_type"] in {"FAILED", "CRASHED"}]
    assert not failed, failed
    return [run for run in found if run["state_type"] == "COMPLETED"]


def test_serve_runs_a_flow_at_the_minute_of_its_schedule(served: str) -> None:
    assert deployment(served, "validate")["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    done = eventually(lambda: runs(served, "validate"))[0]
    assert done["auto_scheduled"]
    assert done["name"] == f"validate {done['expected_start_time'][:16]}", "its instant is the scheduled one"


def test_backfill_starts_from_prefects_own_api_with_its_parameters(served: str) -> None:
    every_minute = deployment(served, "validate")["id"]
    ask(f"{served}/deployments/{every_minute}", {"paused": True}, "PATCH")
    offered = deployment(served, "backfill")
    assert {"start", "end"} <= set(offered["parameter_openapi_schema"]["properties"])
    parameters = {**offered["parameters"], "start": "2026-01-01", "end": "2026-01-03"}
    ask(f"{served}/deployments/{offered['id']}/create_flow_run", {"parameters": parameters})
    eventually(lambda: runs(served, "backfill"))


def test_a_second_serve_in_the_same_home_is_refused(served: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = next(tmp_path_factory.getbasetemp().glob("served*"))
    command = [*OIHEDGE, "serve", "-e", str(home / "every_minute.yaml"), "--home", str(home)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "serve is already under way" in second.stderr
    assert "Traceback" not in second.stderr
