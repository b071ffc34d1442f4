"""Which market a lake holds: remembered before its first row, because simulated and real rows are never mixed.

In a folder this is the file lake.json. S3 has no lock to write a file under, so there it is a Delta table without rows,
made by one conditional put and named `lake.json` too; its description says the same.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from filelock import FileLock

from oihedge.core.errors import ConfigError, OihedgeError, one_line
from oihedge.lake.storage import Storage

MARKER = "lake.json"


def marked(storage: Storage) -> bool | None:
    """Return whether the lake holds the simulated market, or None while nothing was written.

    Raises:
        ConfigError: if the marker cannot be read.
    """
    address = f"{storage.root}/{MARKER}"
    try:
        text = _described(storage) if storage.remote else Path(address).read_text()
        return None if text is None else bool(json.loads(text)["simulated"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{address} cannot be read", expected='{"simulated": true or false}', got=one_line(error)
        ) from None


def mark(storage: Storage, simulated: bool) -> None:
    """Remember which market the lake holds; what is remembered already stays.

    Raises:
        OihedgeError: if the store refuses the write.
    """
    if marked(storage) is not None:
        return
    text = json.dumps({"simulated": simulated})
    if storage.remote:
        _describe(storage, text)
        return
    root = Path(storage.root)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "lake.lock", timeout=storage.lock_timeout_s):
        if marked(storage) is None:
            draft = root / f"{MARKER}.new"
            draft.write_text(text + "\n")
            draft.replace(root / MARKER)


def _described(storage: Storage) -> str | None:
    found = storage.open("derived", MARKER)
    return None if found is None else found.metadata().description


def _describe(storage: Storage, text: str) -> None:
    empty = pl.Schema({"simulated": pl.Boolean()}).to_frame(eager=True).to_arrow().schema
    try:
        with suppress(FileExistsError):
            DeltaTable.create(storage.uri("derived", MARKER), empty, description=text, storage_options=storage.options)
    except (DeltaError, OSError) as error:
        if marked(storage) is None:
            raise OihedgeError(f"lake {storage.root} could not be marked", got=one_line(error)) from None
