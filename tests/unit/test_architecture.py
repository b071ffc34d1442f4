"""The borders of the house."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "oihedge"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
DELTA_CALLS = {"write_delta", "read_delta", "scan_delta", "sink_delta"}
CLOCK_CALLS = {"now", "utcnow", "today"}
LONGEST = 60


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_imports_point_down_and_vendors_stay_behind_their_doors() -> None:
    done = tool("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    done = tool("-m", "ruff", "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_would_format_nothing_anew() -> None:
    done = tool("-m", "ruff", "format", "--check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_mypy_is_content_in_strict_mode() -> None:
    done = tool("-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_keeps_the_rules_that_linters_do_not_know(path: Path) -> None:
    tree = ast.parse(path.read_text())
    calls = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    if "lake" not in path.parts:
        assert not calls & DELTA_CALLS, "only lake touches Delta tables"
    if path != PACKAGE / "core" / "clock.py":
        assert not list(wall_clock(tree)), "time comes in through a Clock"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno <= LONGEST, f"{node.name} is too long"


def wall_clock(tree: ast.AST) -> list[ast.Call]:
    """Calls of datetime.now(), datetime.utcnow(), date.today() and time.time()."""
    found = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            owner, name = node.func.value.id, node.func.attr
            if (owner in {"datetime", "date"} and name in CLOCK_CALLS) or (owner, name) == ("time", "time"):
                found.append(node)
    return found


def test_rooms_settings_and_tests_go_by_the_same_names() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/settings.py")} - {"core"}
    assert rooms <= {path.name for path in (ROOT / "conf").iterdir()}
    assert rooms <= {path.name for path in (ROOT / "tests" / "unit").iterdir()}


def test_every_locked_version_is_exact_and_without_a_local_suffix() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line and "+" not in line and " " not in line for line in lines)
    assert len(lines) > 150
