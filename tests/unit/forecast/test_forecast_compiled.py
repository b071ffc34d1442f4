"""The compiled loops without a place to keep their code."""

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


@pytest.mark.skipif(not fused.COMPILED, reason="no numba here")
def test_where_nothing_may_be_written_loops_are_compiled_all_the_same(tmp_path):
    package = tmp_path / "oihedge"
    shutil.copytree(Path(fused.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "forecast" / "compiled" / "__pycache__").write_text("in the way of a folder")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PATH": os.environ["PATH"]}
    told = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, env={**nowhere, "PYTHONPATH": str(tmp_path)}
    )
    assert told.stdout.split() == ["True", str(package / "forecast" / "fused.py"), "6.0"], told.stderr
