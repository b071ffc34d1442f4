"""What a verb works in: its settings, its instant, its standard output and its progress."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from oihedge.cli.progress import Telling
from oihedge.core.clock import SystemClock, iso, parse_instant
from oihedge.core.errors import without_secrets

if TYPE_CHECKING:
    from rich.console import Console

    from oihedge.config import Config

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SETTING=VALUE]...", help="Hydra overrides.")]
Experiment = Annotated[
    str | None,
    typer.Option("--experiment", "-e", metavar="NAME|PATH", help="A name in conf/experiment/, or a .yaml file."),
]
Home = Annotated[
    Path | None, typer.Option("--home", metavar="FOLDER", help="Where data, models and decisions are kept.")
]
AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="INSTANT", help="Work as of then, e.g. 2025-07-01T00:05:00Z.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")]
_homes: list[Path] = []


@dataclass(frozen=True)
class Session:
    """One command under way."""

    config: Config
    as_of: datetime
    given_as_of: datetime | None
    overrides: tuple[str, ...]
    experiment: str | None
    as_json: bool
    out: TextIO
    progress: Telling

    def show(self, report: Mapping[str, Any], draw: Callable[[Console, Mapping[str, Any]], None]) -> None:
        """Print `report` as JSON, or drawn as tables under the label of its market."""
        if self.as_json:
            json.dump(plain(report), self.out, indent=2, allow_nan=False)
            self.out.write("\n")
        else:
            from rich.console import Console

            console = Console(file=self.out, highlight=False, width=None if self.out.isatty() else 160)
            draw(console, report)
        self.out.flush()


@contextmanager
def opened(
    overrides: Sequence[str] | None, experiment: str | None, home: Path | None, as_of: str | None, as_json: bool
) -> Iterator[Session]:
    """Load the settings, fix the instant and keep standard output for the result alone.

    Raises:
        ConfigError: for settings, an experiment or an instant that is wrong.
    """
    from oihedge.config import ROOT, effective_as_of, load

    given = parse_instant(as_of, "--as-of") if as_of else None
    config = load(overrides or (), experiment=experiment, home=home or ROOT)
    _homes.append(config.home)
    with reserved_stdout() as out, Telling.on_stderr() as progress:
        yield Session(
            config=config,
            as_of=effective_as_of(config, given, SystemClock().now()),
            given_as_of=given,
            overrides=tuple(overrides or ()),
            experiment=str(Path(experiment).resolve()) if experiment and Path(experiment).is_file() else experiment,
            as_json=as_json,
            out=out,
            progress=progress,
        )


@contextmanager
def reserved_stdout() -> Iterator[TextIO]:
    """Yield standard output; whatever else prints there meanwhile, libraries and children, lands on standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out, redirect_stdout(sys.stderr):
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def log_folder() -> Path:
    """Return where the traceback of an unexpected error goes: the command's home if it got that far."""
    return (_homes[-1] if _homes else Path.cwd()) / "data" / "logs"


def plain(value: Any) -> Any:
    """Return `value` as JSON can carry it: instants and paths as text, NaN and infinity as null, no secret in it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return iso(value)
    return value if value is None or isinstance(value, (bool, int)) else without_secrets(str(value))
