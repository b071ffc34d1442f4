"""What a process frees stays with it while a network trains, and no longer."""

import gc
import platform
import resource
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest

from oihedge.forecast.memory import kept_memory


def faults(rounds: int = 5) -> int:
    """Return the page faults of taking and freeing 96 MB time and again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [np.ones(3 << 20) for _ in range(4)]  # 24 MB each
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc here")
def test_freed_memory_is_kept_meanwhile_and_given_back_afterwards():
    def counted(how) -> int:
        with how:
            faults(1)
            return faults()

    usual, kept, again = (counted(how) for how in (nullcontext(), kept_memory(), nullcontext()))
    assert kept < usual / 20
    assert kept < again / 20


PROCESS = """
import resource, sys
import numpy as np
from oihedge.forecast.memory import kept_memory, lean_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        block = np.ones(1 << 18)  # 2 MB, which glibc usually keeps
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "lean":
    lean_memory()
faults()
before = faults()
with kept_memory():
    faults()
    kept = faults()
faults()
print(before, kept, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc here")
def test_a_lean_process_gives_back_what_it_frees_but_while_it_trains():
    def counted(kind: str) -> list[int]:
        command = [sys.executable, "-c", PROCESS, kind]
        return list(map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))

    (lean_before, kept, lean), (usual_before, kept_too, usual) = counted("lean"), counted("usual")
    assert max(usual_before, kept, kept_too, usual) < min(lean_before, lean) / 20


def test_an_error_inside_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), kept_memory():
        _ = 1 / 0


def test_older_objects_are_not_walked_through_meanwhile_and_are_again_afterwards():
    before = gc.get_freeze_count()
    with kept_memory():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == before == 0
