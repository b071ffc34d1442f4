"""The environment that `make` makes: whole or made anew, and a failure is one line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The set-up program, working on a project in a temporary folder that has nothing to install."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[project]\nname = 'nothing'\nversion = '1'\n")
    (project / "constraints.txt").write_text("# nothing\n")
    monkeypatch.setattr(module, "ROOT", project)
    monkeypatch.setattr(module, "LOCK", project / "constraints.txt")
    return module


@pytest.mark.long
def test_an_environment_that_was_interrupted_is_not_usable(environment: ModuleType, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert not environment.usable(venv)
    environment.make_venv(venv)
    assert not environment.usable(venv), "nothing is installed yet"
    (venv / environment.UNFINISHED).unlink()
    assert environment.usable(venv)
    (venv / "bin" / "python").unlink()
    assert not environment.usable(venv)


def test_nothing_is_done_while_lock_and_python_are_the_same(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv, installs = tmp_path / "venv", []
    monkeypatch.setattr(environment, "make_venv", lambda path: path.mkdir())
    monkeypatch.setattr(environment, "install", lambda path, index: installs.append(index))
    environment.prepare(venv, "")
    environment.prepare(venv, "")
    assert installs == [""]
    environment.LOCK.write_text("# another lock\n")
    monkeypatch.setattr(environment, "usable", lambda path: True)
    environment.prepare(venv, "")
    assert installs == ["", ""]


@pytest.mark.long
def test_an_installation_that_fails_says_so_in_one_line_and_is_not_taken_for_done(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    venv = tmp_path / "venv"
    with pytest.raises(SystemExit, match=r"^environment: pip failed, see .*install\.log: ERROR"):
        environment.prepare(venv, "")
    assert not environment.usable(venv)
    assert not (venv / environment.STAMP).exists()


def test_make_says_in_one_line_that_python_is_missing() -> None:
    done = subprocess.run(
        ["make", "venv", "PYTHON=python-that-is-not-there"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("make: python-that-is-not-there is not there: install Python 3.11")


def test_make_real_says_in_one_line_that_its_data_is_missing() -> None:
    done = subprocess.run(
        ["make", "real", "REALDATA=/no/such/folder"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Error 3" in done.stderr
    assert done.stderr.splitlines()[0].startswith("make real: no recorded data at /no/such/folder")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="asks this very Python for its version")
def test_the_right_python_is_taken(environment: ModuleType) -> None:
    assert environment.key() == environment.key()
