"""The verbs, and what each shares with the others."""

from __future__ import annotations

from typing import Annotated

import typer

from oihedge import __version__

app = typer.Typer(
    name="oihedge",
    help="Hedge spot crypto holdings by what perpetual futures' open interest foretells.",
    epilog="Settings are Hydra overrides at the end of a command: oihedge retrain forecast=persistence "
    "hedge.limits.max_ratio=0.9. Exit codes: 0 ok, 1 failed, 2 usage or settings, 3 data not good enough, "
    "4 held by a gate, 130 stopped by Ctrl-C, 143 by SIGTERM.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oihedge {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and third parties' warnings.")] = False,
) -> None:
    """Take the options that come before a verb; `main` reads --debug wherever it stands."""


# The verbs register themselves.
from oihedge.cli import backfill, data, holdings, importing, inputs, lake, loop, models, pages, quarantine, trials  # noqa: E402, F401
