"""The errors oihedge raises, each with the exit code the command ends with.

OihedgeError            1  something failed that retrying or code must mend
├── ConfigError         2  a setting, argument or file the user named is wrong
├── DataError           3  the data is not good enough to go on
│   └── SchemaError     3  a frame lacks a column or has the wrong type
├── VenueError          1  a venue could not be read after all retries
├── ModelError          1  a model artifact is missing, tampered with or not usable
├── BusyError           1  another live process holds the lease
└── GateHeld            4  a gate or limit did its work and held something back
"""

from __future__ import annotations

import os
import re

_SECRET_NAMES = re.compile(r"AWS_\w*(KEY|TOKEN|SECRET)\w*(?<!_FILE)|OIHEDGE_\w+_KEY")
_SHORTEST_SECRET = 8
"""Shorter values are stand-ins of a test store ("test"), and part of many a word."""
_DRAWING = re.compile(r"\x1b\[[0-9;]*m|[↳│└─]|Error performing (list request|\w+ \S+ in \S+ -)")
_LONGEST = 240


def printable(text: str) -> str:
    """Return `text` with whatever could steer a terminal written out: it may hold what a venue sent."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def without_secrets(text: str) -> str:
    """Return `text` with the value of every secret that the environment holds (keys, tokens) as ***."""
    held = {value.strip() for name, value in os.environ.items() if _SECRET_NAMES.fullmatch(name)}
    for secret in sorted(held, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def one_line(error: BaseException) -> str:
    """Return a vendor's error, which may be a drawn tree of causes, as one short line.

    A store's refusal repeats the access key that it refuses: no secret is passed on.
    """
    text = without_secrets(_DRAWING.sub(" ", str(error)))
    return (" ".join(text.split()) or type(error).__name__)[:_LONGEST]


class OihedgeError(Exception):
    """Root of every error that oihedge raises itself; its text is one clear line."""

    exit_code = 1

    def __init__(self, what: str, *, expected: str = "", got: str = "", do: str = "") -> None:
        parts = [what]
        if expected:
            parts.append(f"expected {expected}")
        if got:
            parts.append(f"got {got}")
        if do:
            parts.append(do)
        self.what, self.expected, self.got, self.do = what, expected, got, do
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


class ConfigError(OihedgeError):
    """A setting, argument or file named by the user is wrong."""

    exit_code = 2


class DataError(OihedgeError):
    """The data at hand is not good enough for what was asked."""

    exit_code = 3


class SchemaError(DataError):
    """A frame lacks a column or carries the wrong type."""


class VenueError(OihedgeError):
    """A venue could not be read after every allowed retry."""


class ModelError(OihedgeError):
    """A model artifact is missing, damaged or does not fit the data."""


class BusyError(OihedgeError):
    """Another live process holds the lease on this work."""


class GateHeld(OihedgeError):
    """A gate or limit did its work: nothing failed, something was held back."""

    exit_code = 4


def of_reading(error: BaseException) -> DataError | None:
    """Return what an error that Polars raised while it read stored data means; None for any other error.

    Lazy rows are read where they are collected, far from the lake that gave them. Told by name, since a panic is an
    exception of no module that could be imported, and Polars takes long to load.
    """
    kind, text = type(error).__name__, str(error)
    stored = isinstance(error, OSError) and (".parquet" in text or "object-store" in text)
    if not stored and kind not in ("ComputeError", "PanicException"):
        return None
    return DataError(
        "stored data cannot be read",
        got=f"{kind}: {one_line(error)}",
        do="restore the damaged table from a copy, or check the store and its credentials",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocator gave up: Python and numpy have an exception for it, torch a plain RuntimeError."""
    words = str(error).lower()
    signs = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in words for sign in signs))
