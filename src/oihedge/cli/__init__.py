"""The command `oihedge`."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from oihedge.core.errors import OihedgeError, of_reading, one_line, printable, without_secrets

STOPPED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM, as shells count them: 128 and the signal's number."""


class Terminated(SystemExit):
    """SIGTERM came: what is under way is closed on the way out, an MLflow run with these words as its reason."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)

    def __str__(self) -> str:
        return "stopped by SIGTERM"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what goes wrong is one line on standard error, never a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if not given:
        _run(["--help"])
        return 2
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")  # third parties' deprecations are for the tests, where each is listed
    try:
        with _told_of_sigterm():
            code = _run([word for word in given if word != "--debug"])
        return _end("stopped", STOPPED, None) if code == STOPPED else code  # typer's answer to Ctrl-C is a bare code
    except Terminated as error:
        return _end(str(error), TERMINATED, None)
    except OihedgeError as error:
        return _end(str(error), error.exit_code, error if debug else None)
    except KeyboardInterrupt:
        return _end("stopped", STOPPED, None)
    except BaseException as error:
        return _unforeseen(error, debug)


@contextmanager
def _told_of_sigterm() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, unless the process was started to treat it otherwise."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _unforeseen(error: BaseException, debug: bool) -> int:
    """Be the last line of defence: one line, and the traceback where it can be read."""
    if hasattr(error, "format_message"):  # typer's own: a wrong option or argument
        return _end(_usage(error), 2, None)
    unread = of_reading(error)  # a panic of Polars is no Exception
    if unread is None and not isinstance(error, Exception):
        raise error
    line = str(unread) if unread else f"unexpected {type(error).__name__}: {_first_line(error)}{_cause(error)}"
    code = unread.exit_code if unread else 1
    return _end(line, code, error) if debug else _end(f"{line}; traceback: {_log(error)}", code, None)


def _run(arguments: list[str]) -> int:
    from oihedge.cli.app import app

    code = app(args=arguments, prog_name="oihedge", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _end(line: str, code: int, error: BaseException | None) -> int:
    lines = "".join(traceback.format_exception(error)).splitlines() if error is not None else []
    for text in [*lines, f"oihedge: {line}"]:
        sys.stderr.write(printable(without_secrets(text)) + "\n")
    return code


def _usage(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "oihedge"
    message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    return f"{message.rstrip('.')}; see {command} --help"


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else "no message"


def _cause(error: BaseException) -> str:
    """Return what an error was raised from in the end, where its own line does not tell."""
    root, seen = error, {id(error)}
    while root.__cause__ is not None and id(root.__cause__) not in seen:
        root = root.__cause__
        seen.add(id(root))
    line = _first_line(root)
    return "" if line in _first_line(error) else f"; from {type(root).__name__}: {line}"


def _log(error: BaseException) -> str:
    """Keep the traceback and return where it is, or why it is nowhere: the disk may be full."""
    from oihedge.cli.session import log_folder

    path = log_folder() / "error.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(without_secrets("".join(traceback.format_exception(error))))
    except OSError as second:
        return f"not kept ({one_line(second)}); see it with --debug"
    return str(path)
