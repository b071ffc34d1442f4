"""The files of a registered version: where they lie, and whether they are the ones that were registered."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlparse

from oihedge.core.errors import ModelError, one_line
from oihedge.registry.door import import_mlflow

MANIFEST = "manifest.json"
_DESCRIBED_IN = "MLmodel"
_LONGEST_MANIFEST = 1_000_000


def local_path(uri: str) -> Path | None:
    """Return the path behind an address of a file; None for any other address."""
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(uri) if not parsed.scheme else None


def fingerprint(folder: Path) -> str:
    """Return the sha256 of a saved model's manifest, which holds those of its files; empty where there is none."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return ""
    with manifest.open("rb") as file:
        # One byte more than a manifest may have: whatever is longer, however long, differs from every one.
        return hashlib.sha256(file.read(_LONGEST_MANIFEST + 1)).hexdigest()


def saved_folder(root: Path, version: str, registered: str | None) -> Path:
    """Return the folder with the files that FittedModel.save wrote, below what MLflow logged in `root`.

    Args:
        root: the folder of a logged model.
        version: for messages.
        registered: fingerprint that the version was registered with.

    Raises:
        ModelError: if it is not there, not readable or damaged, naming the file.
    """
    folder = _described(root, version)
    try:
        there, found = folder.is_dir(), fingerprint(folder)
    except OSError as error:
        raise ModelError(
            f"the files of version {version} cannot be read", got=one_line(error), do="mend that, or retrain"
        ) from error
    if not there:
        raise ModelError(f"the files of version {version} are not where its {_DESCRIBED_IN} says", expected=str(folder))
    if registered != found:
        raise ModelError(
            f"{MANIFEST} of version {version} is not the one that was registered",
            expected=str(registered),
            got=found,
            do="restore it, or retrain",
        )
    return folder


def _described(root: Path, version: str) -> Path:
    try:
        flavor = import_mlflow().models.Model.load(str(root)).flavors["python_function"]
        return root / str(flavor["artifacts"]["model"]["path"])
    except Exception as error:  # of many kinds, YAML's and MLflow's: a file that was cut must never stop the hedge
        raise ModelError(
            f"{root / _DESCRIBED_IN} of version {version} cannot be read",
            got=f"{type(error).__name__}: {one_line(error)}",
            do="restore it, or retrain",
        ) from error
