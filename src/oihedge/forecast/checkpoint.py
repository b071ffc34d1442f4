"""The state of an unfinished training in one file: tensors as safetensors, all else as JSON in its header."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from oihedge.core.errors import ModelError, OihedgeError

_FACTS, _SUM, _FINGERPRINT = "facts", "sha256", "fingerprint"


@dataclass(frozen=True)
class State:
    """What a training goes on from: `tensors` by name, `facts` as plain JSON values."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors whose name begins with `prefix`, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def write_checkpoint(path: Path, state: State, fingerprint: str) -> None:
    """Put `state` at `path` in one step: whoever is killed meanwhile leaves the one before, whole.

    Raises:
        OihedgeError: if it cannot be written there, for want of space or rights.
    """
    facts = json.dumps(state.facts)
    tensors = {name: value.detach().clone().contiguous() for name, value in state.tensors.items()}  # views may share
    told = {_FACTS: facts, _FINGERPRINT: fingerprint, _SUM: sum_of([facts], tensors)}
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(save(tensors, told))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()  # where space ran out, what comes after needs it
        why = {"got": str(error.strerror), "do": "make room there, or see that it can be written"}
        raise OihedgeError(
            f"checkpoint {error.filename2 or error.filename or path} cannot be written", **why
        ) from error


def read_checkpoint(path: Path, fingerprint: str) -> State | None:
    """Return the state at `path`; None where there is none.

    Raises:
        ModelError: if the file is damaged, or of a training other than the one with `fingerprint`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"checkpoint {path.name} cannot be read", got=str(error.strerror)) from None
    try:
        told, tensors = _header(content), load(content)
        facts = told[_FACTS]
        damaged = told[_SUM] != sum_of([facts], tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        damaged = True
    if damaged:
        raise ModelError(f"checkpoint {path.name} is damaged")
    if told[_FINGERPRINT] != fingerprint:
        raise ModelError(f"checkpoint {path.name} is of other settings or data")
    return State(tensors, json.loads(facts))


def sum_of(texts: Iterable[str], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of `texts` and of the tensors' names, shapes and values."""
    total = hashlib.sha256()
    for text in texts:
        total.update(text.encode() + b"\0")
    for name, value in sorted(tensors.items()):
        whole = value.detach().contiguous()
        total.update(f"{name} {whole.dtype} {tuple(whole.shape)}\0".encode() + whole.numpy().tobytes())
    return total.hexdigest()


def _header(content: bytes) -> dict[str, str]:
    (length,) = struct.unpack("<Q", content[:8])
    told: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return told
