"""Start, find and stop one loopback server that belongs to a home folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from filelock import FileLock

from oihedge.core.errors import OihedgeError

GUARD = Path(__file__).with_name("guard.py")
HOST = "127.0.0.1"
START_S = 120.0
STOP_S = 20.0
LOOK_S = 2.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """One kind of server of one home: how its command looks on a port, and which path answers when it is healthy."""

    name: str
    home: Path
    command: Callable[[int], list[str]]
    health: str
    environment: Callable[[int], Mapping[str, str]]

    @property
    def folder(self) -> Path:
        """Where its state file and log are."""
        return self.home / ".prefect" / "servers"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / f"{self.name}.log"

    def url(self) -> str | None:
        """Return the address of the one that lives, None where none does."""
        state = self._state()
        if state is None or not self._is_ours(state) or not self._healthy(state["port"]):
            return None
        return f"http://{HOST}:{state['port']}"

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yield the address of a healthy server; one that this started stops at the end, one that it found stays.

        Raises:
            OihedgeError: if it does not become healthy; the message names its log.
        """
        guard: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{self.name}.lock"):
            address = self._found()
            if address is None:
                self.stop()
                address, guard = self._start()
        try:
            yield address
        finally:
            if guard is not None:
                self._end(guard)

    @contextmanager
    def kept_running(self) -> Iterator[str]:
        """As `running`, and started anew, on the same port, if it dies meanwhile or its other owner stops it."""
        with ExitStack() as stack:
            address = stack.enter_context(self.running())
            left = Event()

            def look() -> None:
                while not left.wait(LOOK_S):
                    if not self.alive():
                        with suppress(OihedgeError):
                            stack.enter_context(self.running())

            looking = Thread(target=look, daemon=True)
            looking.start()
            try:
                yield address
            finally:
                left.set()
                looking.join()

    def alive(self) -> bool:
        """Whether the process in the state file is there and ours."""
        state = self._state()
        return state is not None and self._is_ours(state)

    def stop(self) -> None:
        """Stop the one that the state file names, if it is ours and lives."""
        state = self._state()
        if state is not None and self._is_ours(state):
            with suppress(ProcessLookupError):
                os.kill(state["pid"], signal.SIGTERM)
            until = time.monotonic() + STOP_S
            while self._is_ours(state) and time.monotonic() < until:
                time.sleep(0.1)
        self._file.unlink(missing_ok=True)

    def _found(self) -> str | None:
        """The address of a living one, waiting for it to become healthy: under load that may take a while."""
        until = time.monotonic() + START_S
        while self.alive() and time.monotonic() < until:
            if address := self.url():
                return address
            time.sleep(0.2)
        return None

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.name}.json"

    def _state(self) -> dict[str, int] | None:
        try:
            state = json.loads(self._file.read_text())
            return {"pid": int(state["pid"]), "port": int(state["port"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _start(self) -> tuple[str, subprocess.Popen[bytes]]:
        port = free_port(self._remembered_port())
        with self.log.open("wb") as log:
            guard = subprocess.Popen(
                [sys.executable, str(GUARD), *self.command(port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env={**os.environ, **self.environment(port)},
                start_new_session=True,
            )
        self._write(guard.pid, port)
        until = time.monotonic() + START_S
        while not self._healthy(port):
            if guard.poll() is not None or time.monotonic() > until:
                self._end(guard)
                raise OihedgeError(f"the {self.name} server did not start", do=f"see {self.log}")
            time.sleep(0.2)
        return f"http://{HOST}:{port}", guard

    def _write(self, pid: int, port: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": pid, "port": port}))
        fresh.replace(self._file)
        self.folder.joinpath(f"{self.name}.port").write_text(str(port))

    def _remembered_port(self) -> int:
        """The port of last time, so that an address in a browser stays good; 0 where there is none."""
        with suppress(OSError, ValueError):
            return int(self.folder.joinpath(f"{self.name}.port").read_text())
        return 0

    def _end(self, guard: subprocess.Popen[bytes]) -> None:
        guard.terminate()
        try:
            guard.wait(STOP_S)
        except subprocess.TimeoutExpired:
            guard.kill()
        if guard.stdin is not None:
            guard.stdin.close()
        self._file.unlink(missing_ok=True)

    def _is_ours(self, state: Mapping[str, int]) -> bool:
        """Whether the process of `state` is our guard with this port: a recycled pid is somebody else's."""
        words = command_line(state["pid"])
        return str(GUARD) in words and str(state["port"]) in words

    def _healthy(self, port: int) -> bool:
        try:
            with _DIRECT.open(f"http://{HOST}:{port}{self.health}", timeout=3) as answer:
                return int(answer.status) == 200
        except (OSError, urllib.error.URLError, ValueError):
            return False


def command_line(pid: int) -> list[str]:
    """Return the words with which process `pid` was started, empty where there is none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return [word.decode(errors="replace") for word in words if word]
    except OSError:
        pass
    if Path("/proc/self/cmdline").exists():
        return []
    listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return listed.stdout.split()


def free_port(wished: int = 0) -> int:
    """Return `wished` if nobody listens on it, else a port that is free now."""
    for port in (wished, 0):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise OihedgeError("no free port on loopback")
