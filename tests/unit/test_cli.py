"""The command: exit codes, one clear line, pure JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import oihedge.cli
from oihedge.cli import main
from oihedge.cli.session import plain, reserved_stdout
from oihedge.cli.tables import facts, imported, shown, table
from oihedge.core.errors import BusyError, DataError, GateHeld

VERBS = (
    *("demo", "up", "serve", "ingest", "import", "backfill", "validate", "retrain", "evaluate", "promote", "rollback"),
    *("hedge", "replay", "report", "status", "cycle", "inputs", "maintain", "search"),
)
HEAVY = {
    *("ccxt", "polars", "pandas", "torch", "mlflow", "prefect", "matplotlib", "great_expectations", "hydra", "optuna"),
}


class PanicException(BaseException):
    """What a panic of Polars is in Python; its module cannot be imported."""


def one_line(text: str) -> str:
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text.strip()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"Example: oihedge {verb}" in capsys.readouterr().out


def test_no_verb_is_usage_and_prints_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["bogus"], "bogus"),
        (["retrain", "--bogus"], "--bogus"),
        (["backfill"], "--start"),
        (["ingest", "forcast=tft"], "forcast"),
        (["ingest", "forecast=tftt"], "tftt"),
        (["ingest", "hedge.limits.max_ration=1"], "max_ration"),
        (["ingest", "hedge.limits.max_ratio=high"], "hedge.limits.max_ratio"),
        (["ingest", "hedge.limits.min_ratio=0.9", "hedge.limits.max_ratio=0.5"], "min_ratio"),
        (["ingest", "no_equals_sign"], "no_equals_sign"),
        (["evaluate", "--experiment", "nowhere"], "nowhere"),
        (["evaluate", "--experiment", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["status", "--as-of", "yesterday"], "--as-of"),
        (["status", "--as-of", "2025-01-01T00:00:00"], "--as-of"),
        (["backfill", "--start", "2025-13-01", "--end", "2025-12-01"], "--start"),
        (["import"], "--spec"),
        (["quarantine", "list", "--table", "foo"], "unknown table 'foo'"),
        (["quarantine", "release"], "one or more KEYs"),
        (["quarantine", "release", "abcdef", "--table", "ohlcv"], "got both"),
    ],
)
def test_what_the_user_got_wrong_is_one_line_that_names_it_and_exit_2(
    arguments: list[str], named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)] if arguments[0] != "bogus" else []
    assert main([*arguments, *home]) == 2
    out, err = capfd.readouterr()
    assert named in one_line(err)
    assert out == ""
    assert list(tmp_path.iterdir()) == [], "a wrong command writes nothing"


@pytest.mark.parametrize("group", ["data", "quarantine"])
def test_a_group_without_its_verb_is_one_line(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group]) == 2
    assert one_line(capsys.readouterr().err) == f"oihedge: Missing command; see oihedge {group} --help"


@pytest.mark.parametrize(
    ("error", "code"),
    [(DataError("too few rows"), 3), (GateHeld("held"), 4), (BusyError("busy"), 1), (KeyboardInterrupt(), 130)],
)
def test_each_error_has_its_exit_code_and_its_one_line(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(oihedge.cli, "_run", raising(error))
    assert main(["status"]) == code
    one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("sent", "code", "line"), [(signal.SIGTERM, 143, "stopped by SIGTERM"), (signal.SIGINT, 130, "stopped")]
)
def test_a_signal_has_its_exit_code_and_its_line_in_every_verb(
    sent: signal.Signals, code: int, line: str, tmp_path: Path
) -> None:
    # The spec is a pipe to which nobody writes: there the verb waits.
    os.mkfifo(tmp_path / "pipe")
    process = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    verb = "from oihedge.cli import main; sys.exit(main())"
    stopped = subprocess.Popen(
        [sys.executable, "-c", process + verb, "import", "--spec", str(tmp_path / "pipe"), "--home", str(tmp_path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with stopped, pipe_when_read(tmp_path / "pipe", stopped):
        stopped.send_signal(sent)
        assert stopped.stderr is not None
        assert one_line(stopped.stderr.read()) == f"oihedge: {line}"
    assert stopped.returncode == code


@contextmanager
def pipe_when_read(path: Path, reader: subprocess.Popen[str]) -> Iterator[None]:
    while True:
        assert reader.poll() is None, "it ended before it read"
        try:
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:  # nobody reads yet
            time.sleep(0.01)
    yield
    os.close(pipe)


def test_an_unexpected_error_is_one_line_with_the_place_of_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oihedge.cli.session._homes", [])
    monkeypatch.setattr(oihedge.cli, "_run", raising(KeyError("close")))
    assert main(["status"]) == 1
    line = one_line(capsys.readouterr().err)
    log = tmp_path / "data" / "logs" / "error.log"
    assert str(log) in line
    assert "KeyError" in log.read_text()


@pytest.mark.parametrize("error", [PanicException("boom"), PanicException(""), OSError("object-store error: denied")])
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_what_fails_where_stored_rows_are_read_is_one_line_and_exit_3(
    error: BaseException, debug: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oihedge.cli.session._homes", [])
    monkeypatch.setattr(oihedge.cli, "_run", raising(error))
    assert main(["status", *debug]) == 3
    assert "oihedge: stored data cannot be read; got" in capsys.readouterr().err.splitlines()[-1]


def test_whoever_asks_to_leave_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oihedge.cli, "_run", raising(SystemExit(7)))
    with pytest.raises(SystemExit):
        main(["status"])


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize(
    "name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OIHEDGE_GLASSNODE_KEY"]
)
def test_no_secret_of_the_environment_is_printed_or_logged(
    name: str, debug: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oihedge.cli.session._homes", [])
    monkeypatch.setenv(name, "s3cret-K3Y")
    monkeypatch.setattr(oihedge.cli, "_run", raising(OSError("object-store error: no s3cret-K3Y here")))
    main(["status", *debug])
    log = tmp_path / "data" / "logs" / "error.log"
    assert "s3cret-K3Y" not in capsys.readouterr().err + (log.read_text() if log.exists() else "")
    assert plain({"failures": ("not s3cret-K3Y",)}) == {"failures": ["not ***"]}
    assert shown("of s3cret-K3Y") == "of ***"


def test_nothing_that_a_report_shows_steers_the_terminal() -> None:
    said = StringIO()
    evil = "by\x1b]0;pwned\x07[red]bit"
    report = {"rows": [{evil: 1, "venue": evil, "several": [{"a": evil}]}], "failures": [evil], "notes": [evil]}
    console = Console(file=said, width=300)
    imported(console, {**report, "files": 1, "judged": report["rows"], "share_good": 1.0})
    facts(console, {"name": evil, evil: evil})
    table(console, evil, report["rows"])
    assert "\x1b" not in said.getvalue()
    assert "\x07" not in said.getvalue()
    assert said.getvalue().count("[red]bit") >= 9


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(oihedge.cli, "_run", raising(DataError("too few rows")))
    assert main(["status", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_what_libraries_print_stays_off_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with reserved_stdout() as out:
        print("a library talks")  # noqa: T201
        subprocess.run([sys.executable, "-c", "print('a child talks')"], check=True)
        out.write("{}")
    captured = capfd.readouterr()
    assert captured.out == "{}"
    assert "a child talks" in captured.err


def test_json_carries_no_nan_and_no_python_types() -> None:
    value = plain({"nan": float("nan"), "path": Path("/a"), "rows": ({"x": 1.5},)})
    assert json.loads(json.dumps(value, allow_nan=False)) == {"nan": None, "path": "/a", "rows": [{"x": 1.5}]}


def test_help_loads_no_vendor() -> None:
    code = f"import sys; from oihedge.cli import main; main(['--help']); sys.exit(bool({HEAVY!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def raising(error: BaseException):  # type: ignore[no-untyped-def]
    def run(_arguments: list[str]) -> int:
        raise error

    return run
