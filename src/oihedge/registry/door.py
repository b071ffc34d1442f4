"""The one place that imports mlflow: late (it takes seconds), without telemetry, without its chatter."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from oihedge.core.errors import ConfigError, ModelError, one_line

_CHATTER = (
    ".*noload.* loader strategy is deprecated.*",
    ".*Inferred schema contains integer column.*",
    ".*Add type hints to the `predict` method.*",
    ".*Any type hint is inferred as AnyType.*",
)
_DAMAGED = ("disk image is malformed", "file is not a database", "database corruption")
_SQLITE = "sqlite:///"
_TALKATIVE = ("mlflow", "alembic")


def import_mlflow() -> Any:
    """Return the mlflow package: telemetry off, and it refuses to load a model that was stored as a pickle."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        _ignore_chatter()
        import mlflow

    return mlflow


@contextmanager
def silenced() -> Iterator[None]:
    """Keep mlflow's progress lines and the listed third-party warnings off the screen."""
    import_mlflow()  # sets its own log level, so it comes first
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            _ignore_chatter()
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _ignore_chatter() -> None:
    for message in _CHATTER:
        warnings.filterwarnings("ignore", message)


def absolute_uri(uri: str, home: Path) -> str:
    """Return `uri` with a relative sqlite path taken from `home`."""
    if not uri.startswith(_SQLITE):
        return uri
    path = home / uri.removeprefix(_SQLITE)
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"{_SQLITE}{path}"


def open_client(uri: str, artifacts: Path, experiments: tuple[str, ...]) -> tuple[Any, dict[str, str]]:
    """Open the tracking store, making its tables and experiments once, one process at a time.

    Two processes that create the same new database crash one another, hence the lock.

    Args:
        uri: absolute tracking and registry address.
        artifacts: folder under which each experiment keeps its files.
        experiments: names that must exist.

    Returns:
        (MlflowClient, experiment ids by name).

    Raises:
        ConfigError: if the store does not open or answer.
        ModelError: if it is locked by another process, damaged, or in a place that may not be read.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    mlflow = import_mlflow()
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        with FileLock(artifacts.parent / ".mlflow.lock"), silenced():
            _open_file(uri)
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
            client = mlflow.MlflowClient(uri, uri)
            return client, {name: _experiment(client, name, artifacts) for name in experiments}
    except (mlflow.exceptions.MlflowException, SQLAlchemyError, OSError) as error:
        raise unopened(uri, error) from None


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn a failure of the store, its folder or a lock in it into the one line that `unopened` has for it."""
    try:
        yield
    except (import_mlflow().exceptions.MlflowException, SQLAlchemyError, OSError) as error:
        raise unopened(uri, error) from error


def unopened(uri: str, error: Exception) -> ConfigError | ModelError:
    """Return what to say of a store that does not open or answer: whether it is busy, damaged, or perhaps not there."""
    place = uri.rpartition("@")[2]  # without the credentials an address may hold
    if "database is locked" in str(error):
        return ModelError(f"registry.tracking_uri {place} is locked by another process", do="wait until it is done")
    if isinstance(error, OSError):  # a lock that is not let go of is one as well
        return ModelError(f"registry.tracking_uri {place} cannot be read: {one_line(error)}")
    if any(words in str(error) for words in _DAMAGED):
        return ModelError(f"registry.tracking_uri {place} is damaged", do="restore it from a backup")
    return ConfigError(
        f"registry.tracking_uri {place} cannot be opened: {type(error).__name__}", do="is the store there?"
    )


def _open_file(uri: str) -> None:
    """Find out at once that a database file may not be read: mlflow tries it again for two minutes."""
    path = Path(uri.removeprefix(_SQLITE))
    # Asked, not opened: closing any handle on the file lets go of the locks that sqlite holds on it in this process.
    if uri.startswith(_SQLITE) and path.is_file() and not os.access(path, os.R_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _experiment(client: Any, name: str, artifacts: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=(artifacts / name).resolve().as_uri()))


@contextmanager
def no_bytecode() -> Iterator[None]:
    """Keep Python from writing a .pyc beside the served code: an artifact holds what was registered, nothing else."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
