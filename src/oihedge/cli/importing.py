"""The verb that loads files: a user's own, Binance Vision's, freqtrade's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oihedge.cli import tables
from oihedge.cli.app import app
from oihedge.cli.session import AsJson, AsOf, Experiment, Home, Overrides, Session, opened
from oihedge.core.clock import parse_instant
from oihedge.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from oihedge.jobs.importing import ImportReport

Specs = Annotated[
    list[Path] | None, typer.Option("--spec", metavar="FILE.yaml", help="What your files are; may be repeated.")
]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="FOLDER", help="With --spec: where its file names start; default: beside it."),
]
VisionFolder = Annotated[
    Path | None, typer.Option("--vision", metavar="FOLDER", help="Binance Vision's zips, in the bucket's layout.")
]
Download = Annotated[
    bool, typer.Option("--download", help="With --vision: first bring what FOLDER lacks of START to END.")
]
Kinds = Annotated[
    str | None,
    typer.Option(
        "--kinds",
        metavar="A,B",
        help="With --vision: of metrics, klines, fundingRate (these three by default), markPriceKlines, "
        "indexPriceKlines, premiumIndexKlines.",
    ),
]
Since = Annotated[str | None, typer.Option("--start", metavar="DATE", help="With --vision: first day.")]
Until = Annotated[
    str | None, typer.Option("--end", metavar="DATE", help="With --vision: the day after the last; default: now.")
]
Freqtrade = Annotated[
    Path | None, typer.Option("--freqtrade", metavar="FOLDER", help="freqtrade's user_data/data/EXCHANGE.")
]
VenueId = Annotated[
    str | None, typer.Option("--venue", metavar="ID", help="With --freqtrade: whose data it is, e.g. binanceusdm.")
]
Timeframe = Annotated[
    str | None, typer.Option("--timeframe", metavar="1h|1m", help="With --vision or --freqtrade: of the bars; 1h.")
]
_FIRST = datetime(2017, 1, 1, tzinfo=UTC)
_BELONG = {
    "--spec": ("--folder",),
    "--vision": ("--download", "--kinds", "--start", "--end", "--timeframe"),
    "--freqtrade": ("--venue", "--timeframe"),
}


@app.command(
    "import",
    epilog="Example: oihedge import market=ccxt --vision data/vision --download --start 2024-01-01 --end 2024-07-01",
)
def import_(
    overrides: Overrides = None,
    spec: Specs = None,
    folder: Folder = None,
    vision: VisionFolder = None,
    download: Download = False,
    kinds: Kinds = None,
    start: Since = None,
    end: Until = None,
    freqtrade: Freqtrade = None,
    venue: VenueId = None,
    timeframe: Timeframe = None,
    experiment: Experiment = None,
    home: Home = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Load files into the lake. --spec: your own; --vision: Binance's archives; --freqtrade: its data folder."""
    source = _source(
        {"--spec": spec, "--vision": vision, "--freqtrade": freqtrade},
        {
            "--folder": folder, "--download": download, "--kinds": kinds, "--start": start, "--end": end,
            "--venue": venue, "--timeframe": timeframe,
        },
    )  # fmt: skip
    if download and not start:
        raise ConfigError("--download needs to know from when", expected="--start DATE")
    if freqtrade and not venue:
        raise ConfigError("--freqtrade needs to know whose data it is", expected="--venue ID, e.g. binanceusdm")
    with opened(overrides, experiment, home, as_of, as_json) as session:
        from oihedge.jobs import importing as job
        from oihedge.jobs.lease import lease

        with lease(session.config, "ingest", doing="oihedge import"):
            if source == "--spec":
                report = job.run(session.config, specs=spec or (), folder=folder, as_of=session.as_of)
            elif source == "--vision":
                since = parse_instant(start, "--start") if start else _FIRST
                until = parse_instant(end, "--end") if end else session.as_of
                report = _archives(session, vision or Path(), since, until, kinds, timeframe, download)
            else:
                report = job.freqtrade(
                    session.config,
                    folder=freqtrade or Path(),
                    venue=venue or "",
                    timeframe=timeframe or "1h",
                    as_of=session.as_of,
                    progress=session.progress,
                )
        session.show(report.as_dict(), tables.imported)
        if report.share_good < session.config.quality.min_good_share:
            raise DataError(
                f"only {report.share_good:.2%} of the rows are good",
                expected=f"at least {session.config.quality.min_good_share:.2%}",
                do="the others are in the quarantine table, each with its reason",
            )


def _source(sources: Mapping[str, object], others: Mapping[str, object]) -> str:
    """Return which source is named, and refuse options that belong to another."""
    named = [name for name, given in sources.items() if given]
    if len(named) != 1:
        raise ConfigError(
            "import needs one kind of source",
            expected="--spec FILE.yaml, --vision FOLDER or --freqtrade FOLDER",
            got=" and ".join(named) or "none",
        )
    strange = [name for name, given in others.items() if given and name not in _BELONG[named[0]]]
    if strange:
        raise ConfigError(f"{strange[0]} does not go with {named[0]}", do="see oihedge import --help")
    return named[0]


def _archives(
    session: Session,
    folder: Path,
    start: datetime,
    end: datetime,
    kinds: str | None,
    timeframe: str | None,
    download: bool,
) -> ImportReport:
    from oihedge.jobs import importing as job

    span: dict[str, Any] = {"start": start, "end": end, "timeframe": timeframe or "1h"}
    if kinds:
        span["kinds"] = tuple(kinds.split(","))
    given = {"folder": folder, "as_of": session.as_of, "progress": session.progress, **span}
    notes: tuple[str, ...] = ()
    if download:
        session.progress.begin("downloading archives")
        notes = job.download(session.config, **given)
    session.progress.begin("reading archives")
    return job.archives(session.config, **given, tables=None, notes=notes)
