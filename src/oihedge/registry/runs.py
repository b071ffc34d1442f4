"""One MLflow run while it is being written."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import tempfile
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from oihedge.core.errors import printable, without_secrets
from oihedge.core.hashing import canonical_json, digest
from oihedge.registry.door import import_mlflow, silenced

_PARAMETERS_AT_ONCE = 90
_LONGEST_PARAMETER = 5_000
_LONGEST_REASON = 900
ENVIRONMENT = "environment.txt"
DIGEST_OF = "sha256."
"""Begins the tag that holds the digest of a run's JSON file: in the database, out of reach of who may change files."""


class ActiveRun:
    """Writes epochs, metrics, figures and files of one run."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self.run_id = client, run_id

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Be a core.protocols.EpochReporter: record `metrics` at step `epoch`."""
        self._log(metrics, step=epoch)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Record final figures."""
        self._log(values, step=0)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record settings; anything but text is written as JSON."""
        from mlflow.entities import Param

        text = {k: v if isinstance(v, str) else canonical_json(v) for k, v in values.items()}
        entries = [Param(name, value[:_LONGEST_PARAMETER]) for name, value in text.items()]
        for start in range(0, len(entries), _PARAMETERS_AT_ONCE):
            self._client.log_batch(self.run_id, params=entries[start : start + _PARAMETERS_AT_ONCE])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for name, value in values.items():
            self._client.set_tag(self.run_id, name, value)

    def figure(self, name: str, figure: Any) -> None:
        """Keep a picture under figures/; `figure` is a matplotlib Figure or the bytes of a PNG."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            if isinstance(figure, bytes):
                path.write_bytes(figure)
            else:
                figure.savefig(path)
            self._client.log_artifact(self.run_id, str(path), "figures")

    def json(self, name: str, value: Any) -> None:
        """Keep `value` as the JSON file `name`, its digest as a tag; NaN and infinity are written as null."""
        content = (json.dumps(_plain(value), indent=1, sort_keys=True, default=str) + "\n").encode()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path))
        self.tags({DIGEST_OF + name: hashlib.sha256(content).hexdigest()})

    def environment(self) -> None:
        """Keep what this process runs on as environment.txt: a lock that pip can install from, but for oihedge."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ENVIRONMENT
            path.write_text(environment_lock())
            self._client.log_artifact(self.run_id, str(path))

    def dataset(self, name: str, *, source: str, version: int | None, profile: Mapping[str, Any]) -> None:
        """Record what was trained on.

        Args:
            name: the table.
            source: its place.
            version: its Delta version.
            profile: rows, time range and the like, plain JSON values.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        place = {"path": source, "delta_table_version": version}
        dataset = Dataset(
            name=name,
            digest=digest([name, place, dict(profile)]),
            source_type="delta_table",
            source=canonical_json(place),
            profile=canonical_json(dict(profile)),
        )
        inputs = [DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "training")])]
        self._client.log_inputs(self.run_id, datasets=inputs)

    def finish(self) -> None:
        """Mark the run finished."""
        self._client.set_terminated(self.run_id, "FINISHED")

    def fail(self, error: BaseException, status: str = "FAILED") -> None:
        """Mark the run failed, with the reason, one line without secrets, as tag `failure`."""
        reason = printable(" ".join(without_secrets(f"{type(error).__name__}: {error}").split())).rstrip(": ")
        self._client.set_tag(self.run_id, "failure", reason[:_LONGEST_REASON])
        self._client.set_terminated(self.run_id, status)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        with silenced():
            import_mlflow().log_metrics(
                {name: float(value) for name, value in values.items()}, step=step, run_id=self.run_id
            )


def environment_lock() -> str:
    """Return every installed distribution as name==version, sorted, below Python and platform as comments.

    oihedge is left out: no index has it, and the run's code version says which it is. What a local version adds, such
    as torch's +cpu, stands behind its line as a comment: which index has that build is not known.
    """
    found: dict[str, str] = {}
    for distribution in distributions():
        name = str(distribution.metadata["Name"])
        found.setdefault(
            re.sub(r"[-_.]+", "-", name).lower(), distribution.version
        )  # the first on the path is imported
    found.pop("oihedge", None)
    parts = ((name, *version.partition("+")) for name, version in sorted(found.items()))
    pins = [f"{name}=={public}" + (f"  # +{local}" if local else "") for name, public, _, local in parts]
    return "\n".join([f"# Python {platform.python_version()}", f"# {platform.platform()}", *pins]) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
