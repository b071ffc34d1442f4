"""Make the virtual environment that `make` works in, from constraints.txt, and leave it alone when it is as locked.

Only the standard library: this runs before anything is installed. A stamp in the environment names what it was made
from (pyproject.toml, constraints.txt, the Python version); the same stamp again means there is nothing to do.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
STAMP = ".oihedge-stamp"
UNFINISHED = ".oihedge-unfinished"
EVERY = 25


def say(text: str) -> None:
    """Print one progress line at once."""
    print(f"environment: {text}", flush=True)  # noqa: T201


def key() -> str:
    """Digest what the environment depends on."""
    content = hashlib.sha256(f"{sys.version}\0{ROOT}\0".encode())
    for path in (ROOT / "pyproject.toml", LOCK):
        content.update(path.read_bytes() + b"\0")
    return content.hexdigest()


def make_venv(venv: Path) -> None:
    """Make a fresh environment; what an interrupted set-up left is thrown away, for it may hold half a package."""
    say(f"making {venv} with Python {sys.version.split()[0]}")
    run_or_stop([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)])
    (venv / UNFINISHED).touch()
    run_or_stop([str(venv / "bin" / "python"), "-m", "ensurepip", "--default-pip"])


def run_or_stop(command: list[str]) -> None:
    """Run one step of making the environment; its failure ends everything with one line."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        cause = " ".join((done.stdout + done.stderr).split())[-200:]
        stop(f"{sys.executable} cannot make a virtual environment (on Debian: install python3.11-venv): {cause}")


def stop(why: str) -> NoReturn:
    """End with one clear line."""
    sys.exit(f"environment: {why}")


def usable(venv: Path) -> bool:
    """Whether `venv` is a whole environment of this very Python."""
    python = venv / "bin" / "python"
    check = f"import pip, sys; sys.exit(sys.version != {sys.version!r})"
    return (
        python.exists()
        and not (venv / UNFINISHED).exists()
        and subprocess.run([str(python), "-c", check], capture_output=True).returncode == 0
    )


def install(venv: Path, torch_index: str) -> None:
    """Install the locked packages and this project (editable), telling every `EVERY` packages how far it is."""
    total = sum(1 for line in LOCK.read_text().splitlines() if "==" in line)
    say(f"installing {total} locked packages; the first time takes some minutes (log: {venv / 'install.log'})")
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--editable", f"{ROOT}[dev]"]
    command += ["--extra-index-url", torch_index] if torch_index else []
    locked = {**os.environ, "PIP_CONSTRAINT": str(LOCK)}  # the variable, not the option: it binds build tools too
    problem, seen = "", 0
    with (
        (venv / "install.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=locked) as pip,
    ):
        for line in pip.stdout or ():
            log.write(line)
            if "ERROR: " in line and not problem:
                problem = line.strip()
            if match := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
                seen += 1
                if seen % EVERY == 0:
                    say(f"{seen} requirements looked at, newest {match[1]}")
            elif line.startswith("Installing collected"):
                say("everything is here, unpacking")
    if pip.returncode:
        stop(f"pip failed, see {venv / 'install.log'}: {problem}")


def prepare(venv: Path, torch_index: str) -> None:
    """Bring `venv` to what the lock says, doing as little as possible."""
    wanted, stamp, unfinished = key(), venv / STAMP, venv / UNFINISHED
    if stamp.is_file() and stamp.read_text() == wanted and not unfinished.exists():
        return
    started = time.monotonic()
    if not usable(venv):
        make_venv(venv)
    unfinished.touch()
    install(venv, torch_index)
    stamp.write_text(wanted)
    unfinished.unlink()
    say(f"ready after {time.monotonic() - started:.0f} s")


def main() -> None:
    """Read the arguments and prepare the environment, one process at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--torch-index", default="", help="a further package index, e.g. of torch's CPU builds")
    arguments = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        stop(f"needs Python 3.11, {sys.executable} is {sys.version.split()[0]}: set PYTHON=/path/to/python3.11")
    with LOCK.open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        prepare(arguments.venv.absolute(), arguments.torch_index)


if __name__ == "__main__":
    main()
