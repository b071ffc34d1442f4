"""The verdict on a slice of rows: good ones go on, bad ones are kept with their reason, none is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from oihedge.core.errors import OihedgeError
from oihedge.core.tables import table as table_named
from oihedge.quality.expectations import Finding, validate
from oihedge.quality.measures import Around, checked_frame
from oihedge.quality.settings import Quality
from oihedge.quality.suites import rules


@dataclass(frozen=True)
class Check:
    """One rule on one slice: `name` is the reason its bad rows carry; one that is only told keeps no row out."""

    name: str
    column: str
    passed: bool
    bad_count: int
    total: int
    told: bool = False


@dataclass(frozen=True)
class Verdict:
    """A slice divided: `good` and `bad` together are the rows that came; `bad` has a column `reason` more.

    `venues` says which venue was set aside, stood still or was silent, for how many hours: see `quorum.compare`.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    checks: tuple[Check, ...]
    share_good: float
    venues: tuple[dict[str, Any], ...] = ()


def judge(
    table: str,
    rows: pl.DataFrame,
    settings: Quality,
    *,
    context: pl.DataFrame | None = None,
    venues: pl.DataFrame | None = None,
) -> Verdict:
    """Divide `rows` by the table's expectations.

    Great Expectations decides each rule on the whole slice; only for the rules that failed are the rows looked for, by
    the same rule's mask.

    Args:
        table: a raw table.
        rows: the table's columns and available_at; more columns are carried along.
        settings: limits.
        context: earlier rows for the jump checks, see `neighbours.context_for`; without, the first row is trusted.
        venues: raw rows of all venues around, see `quorum.compare`; without, the slice is compared with itself.

    Returns:
        The verdict; several reasons of one row are joined by `; `.

    Raises:
        SchemaError: if a column is missing or has the wrong type.
        OihedgeError: if an expectation could not be evaluated.
    """
    spec, listed = table_named(table), rules(table, settings)
    frame, found = checked_frame(rows, spec, listed, settings, Around(context, venues))
    if rows.is_empty():
        return Verdict(
            rows, rows.with_columns(reason=pl.lit("")), tuple(_check(Finding(r, True, 0), 0) for r in listed), 1.0
        )
    findings = validate(table, frame, listed)
    masks = frame.select(_mask(finding) for finding in findings if not finding.passed)
    for finding in findings:
        if not finding.passed and masks[finding.rule.name].sum() != finding.bad_count:
            raise OihedgeError(
                f"rule {table}.{finding.rule.name} disagrees with its expectation",
                expected=f"{finding.bad_count} bad rows",
                got=str(masks[finding.rule.name].sum()),
                do="nothing was validated; report this",
            )
    reason = _reasons(masks.select(f.rule.name for f in findings if not f.passed and not f.rule.told), rows.height)
    good, bad = rows.filter(reason == ""), rows.with_columns(reason=reason).filter(reason != "")
    checks = tuple(_check(finding, rows.height) for finding in findings)
    return Verdict(good, bad, checks, good.height / rows.height, tuple(found))


def _mask(finding: Finding) -> pl.Expr:
    return finding.rule.bad.fill_null(False).alias(finding.rule.name)


def _check(finding: Finding, total: int) -> Check:
    return Check(finding.rule.name, finding.rule.column, finding.passed, finding.bad_count, total, finding.rule.told)


def _reasons(masks: pl.DataFrame, height: int) -> pl.Series:
    if not masks.width:
        return pl.Series("reason", [""], dtype=pl.String).new_from_index(0, height)
    named = [pl.when(name).then(pl.lit(name)) for name in masks.columns]
    return masks.select(reason=pl.concat_str(named, separator="; ", ignore_nulls=True))["reason"]
