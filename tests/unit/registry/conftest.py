"""A real MLflow store: its tables are made once (that takes seconds), every test gets a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from oihedge.core.types import ModelRef
from oihedge.registry.client import ActiveRun, Registry
from oihedge.registry.door import absolute_uri, open_client
from oihedge.registry.settings import Registry as Settings

SETTINGS = Settings(
    tracking_uri="sqlite:///mlruns/mlflow.db",
    artifacts=Path("mlruns/artifacts"),
    experiment="test",
    model_name="oihedge",
)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("store")
    open_client(absolute_uri(SETTINGS.tracking_uri, home), home / "artifacts", ())
    return home / "mlruns" / "mlflow.db"


@pytest.fixture
def registry(empty_store: Path, tmp_path: Path) -> Registry:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    return Registry(SETTINGS, tmp_path)


@pytest.fixture
def add_version(registry: Registry) -> Callable[..., ModelRef]:
    """Register a version without files, which runs and ledger do not look at."""

    def add(run: ActiveRun, **tags: str) -> ModelRef:
        from oihedge.registry.versions import ensure_model, model_ref

        ensure_model(registry._client, SETTINGS.model_name)
        source = f"runs:/{run.run_id}/model"
        made = registry._client.create_model_version(SETTINGS.model_name, source, run_id=run.run_id, tags=tags)
        return model_ref(made)

    return add
