"""Registered versions: logging one from code, and reading one back as a ModelRef."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from oihedge.core.clock import parse_instant
from oihedge.core.types import ModelRef
from oihedge.registry.door import import_mlflow, no_bytecode, silenced

SERVED_WITH = (
    "mlflow", "torch", "lightning", "pytorch-forecasting", "safetensors", "polars", "pandas", "numpy", "pyarrow",
    "scipy", "numba", "llvmlite", "pydantic",
)  # fmt: skip
"""What the served model imports besides oihedge, which no index has: install that beside it."""


def log_version(
    client: Any, name: str, run_id: str, folder: Path, code_path: Path, example: Any,
    requirements: Sequence[str], tags: Mapping[str, str],
) -> ModelRef:  # fmt: skip
    """Log a model from code below the run and register it as the next version of `name`.

    Requirements are pinned to what is installed, so that nothing has to be guessed by importing the model.
    """
    mlflow = import_mlflow()
    pinned = [f"{package}=={found}" for package in SERVED_WITH if (found := _public(package))]
    with silenced(), no_bytecode():
        mlflow.set_experiment(experiment_id=client.get_run(run_id).info.experiment_id)
        # What mlflow.pyfunc.log_model calls, told the run: through the fluent API the run would end here as finished.
        logged = mlflow.models.Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=run_id,
            python_model=str(code_path),
            artifacts={"model": str(folder)},
            input_example=example,
            pip_requirements=[*pinned, *requirements],
        )
        ensure_model(client, name)
        registered = client.create_model_version(
            name, logged.model_uri, run_id=run_id, tags=dict(tags), model_id=logged.model_id
        )
    return model_ref(client.get_model_version(name, registered.version))


def _public(package: str) -> str | None:
    """Return a package's version without its local part, such as +cpu, which public indexes do not have.

    None for one that is not there: compiled loops have a substitute.
    """
    try:
        return installed(package).partition("+")[0]
    except PackageNotFoundError:
        return None


def ensure_model(client: Any, name: str) -> None:
    """Make the registered model `name` unless it is there."""
    try:
        client.create_registered_model(name)
    except import_mlflow().exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def model_ref(found: Any) -> ModelRef:
    """Return MLflow's model version as a ModelRef."""
    tags = {str(name): str(value) for name, value in (found.tags or {}).items()}
    as_of = tags.get("as_of")
    return ModelRef(
        name=found.name,
        version=str(found.version),
        run_id=str(found.run_id),
        trained_as_of=parse_instant(as_of, "tag as_of") if as_of else None,
        tags=tags,
    )
