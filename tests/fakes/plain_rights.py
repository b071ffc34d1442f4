"""Root reads what it may not: without these capabilities it meets a closed file as any other user does."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1 << 1, 1 << 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def plain_rights() -> Iterator[None]:
    """Take from this thread what lets root past the mode of a file, and give it back."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_VERSION, 0), (_Data * 2)()

    def call(name: str) -> None:
        if getattr(libc, name)(ctypes.byref(header), data) != 0:
            raise OSError(ctypes.get_errno(), name)

    call("capget")
    before = data[0].effective
    data[0].effective = before & ~(_DAC_OVERRIDE | _DAC_READ_SEARCH)
    call("capset")
    try:
        yield
    finally:
        data[0].effective = before
        call("capset")
