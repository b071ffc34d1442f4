"""What every test shares: nobody's own Prefect or MLflow, one Prefect server for flows, an end to the time there is."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="oihedge-prefect-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for _name in ("PREFECT_API_URL", "PREFECT_API_KEY", "MLFLOW_TRACKING_URI"):
    os.environ.pop(_name, None)


STARTED = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `.ci/run` gives the long tests."""
    parser.addoption("--begin-within", type=float, metavar="S", help="skip the tests that would begin after S seconds")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what would begin too late: a test cut off half-way fails, and kills what its processes do."""
    limit = item.config.getoption("--begin-within")
    if limit is not None and time.monotonic() - STARTED > limit:
        pytest.skip(f"the {limit:.0f} seconds in which tests may begin are over")


SMALL = """# @package _global_
run: {name: small, as_of: "2025-07-01T00:05:00Z", history_days: 45}
forecast: {model: persistence, train_days: 15, calibration_days: 4, min_train_rows: 100}
evaluation: {test_days: 4}
"""


@pytest.fixture(scope="session")
def small_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment file outside the repository: the whole loop in seconds."""
    path = tmp_path_factory.mktemp("experiment") / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server with a database of its own, for the whole test session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
