"""A registry that is locked or damaged: the hedge decides to hold and says why, whatever else is amiss."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from fakes.plain_rights import plain_rights

from oihedge.cli import main
from oihedge.config import Config, load
from oihedge.jobs.opening import open_registry


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = load(experiment="demo", home=tmp_path)
    assert open_registry(made).champion() is None  # makes the database
    return made


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    content = bytearray(path.read_bytes())
    content[: len(content) // 2] = b"\1" * (len(content) // 2)
    path.write_bytes(content)
    yield


@contextmanager
def closed(path: Path) -> Iterator[None]:
    path.chmod(0)
    with plain_rights():
        yield


@contextmanager
def shut(path: Path) -> Iterator[None]:
    path.parent.chmod(0)
    try:
        with plain_rights():
            yield
    finally:
        path.parent.chmod(0o755)


each_way = pytest.mark.parametrize(
    ("how", "words"),
    [
        pytest.param(locked, "locked by another process", marks=pytest.mark.long),
        (damaged, "is damaged"),
        (closed, "cannot be read"),
        (shut, "cannot be read"),
    ],
)
"""The store waits some twenty seconds for a lock."""


@each_way
def test_the_hedge_holds_and_says_why(
    config: Config, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, how, words
) -> None:
    with how(config.home / "mlruns" / "mlflow.db"):
        assert main(["hedge", "--experiment", "demo", "--home", str(config.home), "--json"]) == 0
    decision = json.loads(capfd.readouterr().out)["decision"]
    assert decision["status"] == "hold"
    assert "registry_unreadable" in decision["reasons"]
    assert decision == json.loads((config.home / "targets" / "latest.json").read_text())
    assert words in caplog.text


@each_way
@pytest.mark.parametrize("command", ["promote", "report"])
def test_another_command_fails_in_one_line(
    config: Config, capfd: pytest.CaptureFixture[str], command, how, words
) -> None:
    with how(config.home / "mlruns" / "mlflow.db"):
        assert main([command, "--experiment", "demo", "--home", str(config.home)]) == 1
    told = capfd.readouterr().err
    assert words in told
    assert "unexpected" not in told
