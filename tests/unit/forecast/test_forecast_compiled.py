"""Where the code of the compiled loops is kept, and what happens where it cannot be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oihedge.forecast import fused

ASK = """
import numpy as np
from oihedge.forecast import fused
from oihedge.forecast.compiled.dropout import dropout
out = np.zeros(3, np.float32)
dropout(np.ones(3, np.float32), 1, 0, np.float32(2), out)
print(fused.COMPILED, fused.__file__, out.sum())
"""


pytestmark = pytest.mark.skipif(not fused.COMPILED, reason="nothing is compiled here")


def test_where_nothing_may_be_written_loops_are_compiled_all_the_same(tmp_path):
    package = tmp_path / "oihedge"
    shutil.copytree(Path(fused.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "forecast" / "compiled" / "__pycache__").write_text("in the way of a folder")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PATH": os.environ["PATH"]}
    told = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, env={**nowhere, "PYTHONPATH": str(tmp_path)}
    )
    assert told.stdout.split() == ["True", str(package / "forecast" / "fused.py"), "6.0"], told.stderr


@pytest.fixture
def ask(tmp_path):
    """Copy the package; return its folder of loops and what asks it in a process of its own."""
    package = tmp_path / "oihedge"
    shutil.copytree(Path(fused.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))

    def asked(question: str = ASK) -> str:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
        told = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, env=env)
        assert told.returncode == 0, told.stderr
        return told.stdout

    return package / "forecast" / "compiled", asked


def test_a_loop_is_compiled_anew_when_what_it_calls_in_another_file_changes(ask):
    loops, asked = ask
    assert asked().split()[-1] == "6.0"
    lanes = loops / "lanes.py"
    lanes.write_text(lanes.read_text().replace("scaled = builder.fmul(given", "scaled = builder.fadd(given"))
    assert asked().split()[-1] == "9.0"


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_kept_code_that_is_damaged_is_made_anew_and_kept_again(ask, kind):
    loops, asked = ask
    asked()
    (file,) = (loops.parents[2] / "kept").rglob(f"*dropout*.{kind}")
    whole = file.stat().st_size
    for damaged in (b"", b"no pickle", file.read_bytes()[: whole // 2]):
        file.write_bytes(damaged)
        assert asked().split()[-1] == "6.0"
        assert file.stat().st_size == pytest.approx(whole, rel=0.1)


def test_numba_that_cannot_be_loaded_leaves_the_same_in_plain_pytorch(ask):
    loops, asked = ask
    broken = loops.parents[2] / "llvmlite"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise OSError('Could not find/load shared object file')")
    assert asked("from oihedge.forecast import fused; print(fused.COMPILED)").split() == ["False"]
