"""A loopback server lives exactly as long as its owner, and is found again while it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oihedge.core.errors import OihedgeError
from oihedge.servers.server import Server, command_line, free_port

OWNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_server_parts import plain_server
with plain_server(Path(sys.argv[1])).running() as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def plain_server(home: Path, *words: str) -> Server:
    command = words or (sys.executable, "-m", "http.server", "--bind", "127.0.0.1")
    return Server("plain", home, lambda port: [*command, str(port)], "/", lambda _port: {})


def gone(pid: int) -> bool:
    until = time.monotonic() + 15
    while command_line(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not command_line(pid)


def listener(port: str) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if "http.server" in (words := command_line(pid)) and port in words]


def test_it_is_up_inside_the_block_and_gone_after(tmp_path: Path) -> None:
    server = plain_server(tmp_path)
    with server.running() as url:
        assert server.url() == url
    assert server.url() is None
    assert listener(url.rsplit(":", 1)[1]) == []


def test_a_second_user_finds_the_first_ones_and_leaves_it_up(tmp_path: Path) -> None:
    server = plain_server(tmp_path)
    with server.running() as first:
        with plain_server(tmp_path).running() as second:
            assert second == first
        assert server.url() == first


def test_the_port_of_last_time_is_taken_again(tmp_path: Path) -> None:
    with plain_server(tmp_path).running() as first:
        pass
    with plain_server(tmp_path).running() as second:
        assert second == first


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_owner_however_that_ends(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "test_server_parts.py").write_text(Path(__file__).read_text())
    home = tmp_path / "home"
    home.mkdir()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    port = owner.stdout.readline().strip().rsplit(":", 1)[1]
    children = listener(port)
    assert children
    os.kill(owner.pid, how)
    owner.communicate()
    assert all(gone(pid) for pid in children)
    assert plain_server(home).url() is None, "a stale note is seen through"
    with plain_server(home).running():
        pass


def test_a_recycled_pid_is_not_taken_for_ours(tmp_path: Path) -> None:
    server = plain_server(tmp_path)
    server.folder.mkdir(parents=True)
    (server.folder / "plain.json").write_text(f'{{"pid": {os.getpid()}, "port": {free_port()}}}')
    assert server.url() is None
    server.stop()
    assert command_line(os.getpid()), "stop() must not touch a process that is not ours"


def test_one_that_does_not_start_names_its_log(tmp_path: Path) -> None:
    broken = plain_server(tmp_path, sys.executable, "-c", "raise SystemExit('no such port')")
    with pytest.raises(OihedgeError, match=r"plain\.log"), broken.running():
        pass
    assert "no such port" in broken.log.read_text()
