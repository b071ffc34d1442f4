"""Run a command for as long as the owner lives: `python guard.py COMMAND ARG ...`, stdin being the owner's pipe.

The kernel closes the pipe however the owner ends, kill -9 included; the command's whole process group ends with it.
Only the standard library: this runs as a script.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

PATIENCE_S = 8
PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Run `command` until it ends by itself, the owner is gone, or SIGTERM arrives; return its exit code."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_guard)
    try:
        while child.poll() is None:
            owner, _, _ = select.select([sys.stdin.fileno()], [], [], 0.3)
            if owner and not os.read(sys.stdin.fileno(), 1):
                break
    finally:
        _end_group(child)
    return child.returncode or 0


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _die_with_guard() -> None:
    """Ask Linux for SIGTERM when the guard itself is killed; other systems have no such wish."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for wish in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, wish)
            child.wait(PATIENCE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
