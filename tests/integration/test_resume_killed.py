"""Retrains killed with -9 in the middle of an epoch go on there and register what an undisturbed one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.tiny_training import AS_OF, home_of, tiny_market

from oihedge.config import Config, load
from oihedge.jobs import retrain
from oihedge.jobs.opening import open_registry

OIHEDGE = (sys.executable, "-c", "import sys; from oihedge.cli import main; sys.exit(main())")
PATIENCE_S = 480

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_market(tmp_path_factory.mktemp("tiny"))


def kill_after(checkpoint: str, experiment: Path, home: Path) -> None:
    """Start a retrain in a process of its own and kill it once it has kept an epoch of the fit `checkpoint`."""
    command = [*OIHEDGE, "retrain", "-e", str(experiment), "--home", str(home)]
    until = time.monotonic() + PATIENCE_S
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not list((home / "data" / "checkpoints").glob(f"*/{checkpoint}.safetensors")):
            assert process.poll() is None, "it ended before that"
            assert time.monotonic() < until, "it did not come"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def weights(config: Config) -> dict[str, bytes]:
    registry = open_registry(config)
    version = registry.challenger()
    assert version is not None
    folder = registry.model_folder(version)
    found = {path.name: path.read_bytes() for path in folder.rglob("*.safetensors")}
    assert found
    return found


def test_a_killed_retrain_goes_on_and_registers_the_weights_of_an_undisturbed_one(experiment: Path) -> None:
    killed, whole = (load(experiment=str(experiment), home=home_of(experiment, name)) for name in ("killed", "whole"))
    for checkpoint in ("fold 1", "final"):
        kill_after(checkpoint, experiment, killed.home)
    resumed = retrain.run(killed, as_of=AS_OF)
    undisturbed = retrain.run(whole, as_of=AS_OF)
    assert weights(killed) == weights(whole)
    assert resumed.scores == undisturbed.scores
    assert told(killed, resumed.run_id)["training"].startswith("resumed after ")
    assert 1 <= int(told(killed, resumed.run_id)["training"].split()[2]) < killed.forecast.max_epochs
    assert told(whole, undisturbed.run_id)["training"] == "anew"
    assert epochs(killed, resumed.run_id) == epochs(whole, undisturbed.run_id)
    assert not (killed.home / "data" / "checkpoints").exists()


KILLED_AFTER_REGISTERING = """
import os, signal, sys
from oihedge.cli import main
from oihedge.jobs import retrain

retrain._judge = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main())
"""


def test_a_retrain_killed_after_it_registered_is_closed_by_that_of_another_hour(experiment: Path) -> None:
    config = load(["forecast=persistence"], experiment=str(experiment), home=home_of(experiment, "registered"))
    command = [sys.executable, "-c", KILLED_AFTER_REGISTERING, "retrain", "-e", str(experiment), "--home"]
    done = subprocess.run([*command, str(config.home), "forecast=persistence"], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [str(one.version) for one in client(config).search_model_versions()] == ["1"]
    made = retrain.run(config, as_of=AS_OF - timedelta(hours=12))
    experiment_id = client(config).get_run(made.run_id).info.experiment_id
    runs = client(config).search_runs([experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED", "KILLED"]
    assert runs[1].data.tags["failure"].startswith("ModelError: its process ended before it did; run ")
    assert [str(one.version) for one in client(config).search_model_versions()] == [made.version] == ["2"]


def told(config: Config, run_id: str) -> dict[str, str]:
    return dict(client(config).get_run(run_id).data.tags)


def epochs(config: Config, run_id: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client(config).get_metric_history(run_id, "val_loss")]


def client(config: Config) -> Any:
    from mlflow import MlflowClient

    uri = f"sqlite:///{config.home / config.registry.tracking_uri.removeprefix('sqlite:///')}"
    return MlflowClient(uri, uri)
