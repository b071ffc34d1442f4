"""Upkeep of one table: small files merged, and what no kept version needs removed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from oihedge.core.errors import DataError, OihedgeError, one_line
from oihedge.lake.storage import Layer, Storage

_MARGIN = timedelta(hours=1)
"""Delta measures the retention by its own clock, a little later than `now`."""


@dataclass(frozen=True)
class Upkeep:
    """What upkeep did, or (dry run) would do, to one table.

    files: data files of the newest version. stored: all that lie in the store, those of old versions and orphans of
    killed writers included. removed: files that vacuum deleted (on a dry run: would delete as things are, unmerged).
    """

    files_before: int
    files_after: int
    stored_bytes_before: int
    stored_bytes_after: int
    removed: int


def keep_up(
    storage: Storage,
    layer: Layer,
    table: str,
    *,
    keep: timedelta,
    needed: Collection[int],
    now: datetime,
    dry_run: bool,
) -> Upkeep:
    """Merge the table's small files, then remove every file that only versions older than `keep` need.

    A version is kept if it was the newest at any time within `keep` before `now`, or is among `needed`. Both steps are
    single commits beside which others may append; killed half-way, the table is as it was or as it shall be.

    Args:
        storage: the lake's place.
        layer: the table's layer.
        table: its name.
        keep: at least an hour in earnest: files that a writer has not committed yet are younger than that.
        needed: versions that something still refers to.
        now: the present by the wall clock, which is what Delta measures ages by.
        dry_run: change nothing.

    Raises:
        OihedgeError: if the store refuses; what was done until then stands, and running again completes it.
    """
    uri, opened = storage.uri(layer, table), storage.open(layer, table)
    if opened is None:
        raise DataError(f"there is no lake table {uri}")
    files, stored = len(opened.file_uris()), storage.listing(uri)
    try:
        if not dry_run:
            _merge(storage, opened)
        older = sorted({version for version in needed if 0 <= version < opened.version()})
        kept = _at_risk(older, now - keep, lambda version: storage.committed(layer, table, version))
        gone = _vacuum(opened, uri, set(storage.listing(uri)), keep, kept, dry_run)
    except (DeltaError, OSError) as error:
        raise OihedgeError(
            f"lake table {uri} could not be tidied up", got=one_line(error), do="no row was lost; run again"
        ) from (None if storage.remote else error)
    left = {name: size for name, size in storage.listing(uri).items() if name not in gone}
    return Upkeep(files, len(opened.file_uris()), sum(stored.values()), sum(left.values()), len(gone))


def _merge(storage: Storage, opened: DeltaTable) -> None:
    """Merge small files; a process that merged them at the same moment has done this one's work."""
    try:
        storage.merge(opened)
    except CommitFailedError:
        opened.update_incremental()


def _vacuum(opened: DeltaTable, uri: str, held: set[str], keep: timedelta, kept: list[int], dry_run: bool) -> set[str]:
    """Remove those of the files `held` that are older than `keep` and in none of the versions `kept`; return them."""

    def vacuum(dry: bool) -> list[str]:
        # Not by the table's own retention, which keeps everything so that no other tool removes what is needed.
        hours = math.ceil(keep / timedelta(hours=1))
        return opened.vacuum(hours, dry_run=dry, enforce_retention_duration=False, full=True, keep_versions=kept)

    # Delta also names what it removed long ago; and vacuuming in vain would make versions of nothing but log entries.
    found = held.intersection(f"{uri}/{name}" for name in vacuum(True))
    if found and not dry_run:
        vacuum(False)
    return found


def _at_risk(needed: list[int], cutoff: datetime, committed: Callable[[int], datetime]) -> list[int]:
    """Return those of the needed versions that were replaced before `cutoff`: their age alone does not keep them."""
    return needed[: bisect_left(needed, True, key=lambda version: committed(version + 1) >= cutoff + _MARGIN)]
