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


def printable(text: str) -> str:
    """Return `text` with whatever could steer a terminal written out: it may hold what a venue sent."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


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
