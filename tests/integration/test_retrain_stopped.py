"""A retrain that is sent a signal in the middle of a fit says so, in its exit code too, and goes on afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.tiny_training import AS_OF, home_of, tiny_market
from mlflow import MlflowClient

from oihedge.config import Config, load
from oihedge.jobs import retrain

OIHEDGE = (
    sys.executable, "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from oihedge.cli import main; sys.exit(main())",
)  # fmt: skip
PATIENCE_S = 480

pytestmark = pytest.mark.long


def stop(sent: signal.Signals, fit: str, experiment: Path, home: Path) -> tuple[int, str]:
    """Signal a retrain, a process of its own, once it keeps an epoch of `fit`; return its exit code and last line."""
    command = [*OIHEDGE, "retrain", "-e", str(experiment), "--home", str(home)]
    until = time.monotonic() + PATIENCE_S
    with (home / "stderr.txt").open("wb") as told, subprocess.Popen(command, stdout=told, stderr=told) as process:
        while not list((home / "data" / "checkpoints").glob(f"*/{fit}.safetensors")):
            assert process.poll() is None, "it ended before that"
            assert time.monotonic() < until, "it did not come"
            time.sleep(0.005)
        process.send_signal(sent)
    return process.returncode, (home / "stderr.txt").read_text().splitlines()[-1]


def runs(config: Config) -> list[tuple[str, str]]:
    uri = f"sqlite:///{config.home / config.registry.tracking_uri.removeprefix('sqlite:///')}"
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(config.registry.experiment)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    return [(run.info.status, run.data.tags.get("failure", run.data.tags.get("training", ""))) for run in found]


def test_a_signal_has_its_exit_code_one_line_and_a_reason_in_mlflow_and_the_training_goes_on(tmp_path: Path) -> None:
    experiment = tiny_market(tmp_path)
    config = load(experiment=str(experiment), home=home_of(experiment, "stopped"))
    assert stop(signal.SIGINT, "fold 1", experiment, config.home) == (130, "oihedge: stopped")
    assert stop(signal.SIGTERM, "final", experiment, config.home) == (143, "oihedge: stopped by SIGTERM")
    retrain.run(config, as_of=AS_OF)
    *stopped, (status, training) = runs(config)
    reasons = ["KeyboardInterrupt: stopped by Ctrl-C (SIGINT)", "Terminated: stopped by SIGTERM"]
    assert stopped == [("KILLED", reason) for reason in reasons]
    assert status == "FINISHED"
    assert training.startswith("resumed after ")
