"""A model on disk: JSON and safetensors with a manifest of digests; nothing in it is ever executed."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oihedge.core.errors import ModelError
from oihedge.core.hashing import canonical_json

FORMAT = "oihedge.model/1"
MOST_BYTES = 2**30
"""A larger file is not read at all: what saves models here does not write it, and it might not fit into memory."""
MANIFEST, DESCRIPTION = "manifest.json", "model.json"


def write_artifact(folder: Path, kind: str, description: Mapping[str, Any], tensors: Mapping[str, bytes]) -> None:
    """Write a model: its description, its tensor files, and last the manifest that vouches for them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {DESCRIPTION: (canonical_json(description) + "\n").encode(), **tensors}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    (folder / MANIFEST).write_text(canonical_json({"format": FORMAT, "kind": kind, "sha256": digests}) + "\n")


def read_artifact(folder: Path) -> tuple[str, dict[str, Any], dict[str, bytes]]:
    """Read and verify a model.

    Returns:
        (kind, description, tensor files by name).

    Raises:
        ModelError: naming the file that is missing, damaged, or of another format.
    """
    manifest = _json(folder / MANIFEST, _bytes(folder / MANIFEST))
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("sha256"), dict):
        raise ModelError(f"{folder / MANIFEST} is no model manifest", expected=FORMAT, got=str(manifest.get("format")))
    if DESCRIPTION not in manifest["sha256"]:
        raise ModelError(f"{folder / MANIFEST} does not list {DESCRIPTION}")
    files: dict[str, bytes] = {}
    for name, digest in manifest["sha256"].items():
        if Path(name).name != name:
            raise ModelError(f"{folder / MANIFEST} lists {name!r}, which is no plain file name")
        files[name] = _bytes(folder / name)
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise ModelError(
                f"{folder / name} is damaged", expected=f"sha256 {str(digest)[:12]}...", do="register the model again"
            )
    description = _json(folder / DESCRIPTION, files.pop(DESCRIPTION))
    return str(manifest.get("kind")), description, files


def _bytes(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            got = f"{found.st_size} bytes" if stat.S_ISREG(found.st_mode) else stat.filemode(found.st_mode)
            raise ModelError(f"{path} is no file of a saved model", expected=f"at most {MOST_BYTES} bytes", got=got)
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read", expected="a file of the saved model", got=str(error.strerror)
        ) from None


def _json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        raise ModelError(f"{path} is damaged", expected="JSON") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is damaged", expected="a JSON object")
    return value
