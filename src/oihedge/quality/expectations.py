"""The only door to Great Expectations: a suite from rules, its verdict as counts. Importing it takes seconds: late."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from oihedge.core.errors import OihedgeError
from oihedge.quality.rules import Rule

COUNTS = {"result_format": "BASIC", "partial_unexpected_count": 0}
"""Counts and no values: what a venue sent is never rendered into a page."""
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Finding:
    """What the suite found for one rule."""

    rule: Rule
    passed: bool
    bad_count: int


def validate(table: str, frame: pl.DataFrame, rules: Sequence[Rule]) -> list[Finding]:
    """Let Great Expectations decide every rule on the checked frame.

    Rules that hold cost no more than their yes; only those that do not are asked again, for counts. Row numbers
    (COMPLETE) would take a hundred times as long when many rows are bad.

    Raises:
        OihedgeError: if an expectation could not be evaluated.
    """
    with _one_at_a_time, _configured_once():
        batch = _batch_definition().get_batch(
            batch_parameters={"dataframe": as_pandas(frame.select(columns_of(frame, rules)))}
        )

        def asked(some: Sequence[Rule], how: Any) -> dict[str, Any]:
            results = batch.validate(_suite(table, tuple(some)), result_format=how).results if some else []
            return {result.expectation_config.meta["rule"]: result for result in results}

        held = asked(rules, "BOOLEAN_ONLY")
        counted = asked([rule for rule in rules if not held[rule.name].success], COUNTS)
    return [_finding(table, rule, counted.get(rule.name)) for rule in rules]


@contextmanager
def _configured_once() -> Iterator[None]:
    """Keep what Great Expectations works out of an expectation a hundred times over, nearly half of a suite's time."""
    from great_expectations.expectations.expectation import Expectation

    made, kept = Expectation.configuration, dict[int, tuple[Any, Any]]()

    def configuration(self: Any) -> Any:
        if id(self) not in kept:
            kept[id(self)] = (self, made.fget(self))  # holding the object keeps its id from being used again
        return kept[id(self)][1]

    Expectation.configuration = property(configuration)
    try:
        yield
    finally:
        Expectation.configuration = made


def as_pandas(frame: pl.DataFrame) -> Any:
    """Return the frame for pandas; text as categories, which are ten times as quick to look through."""
    return frame.with_columns(pl.col(pl.String).cast(pl.Categorical)).to_pandas()


def columns_of(frame: pl.DataFrame, rules: Sequence[Rule]) -> list[str]:
    """Return the columns of the frame that the rules speak of."""
    spoken = {rule.expectation[1].get(name) for rule in rules for name in ("column", "column_A", "column_B")}
    return [name for name in frame.columns if name in spoken]


def _finding(table: str, rule: Rule, counted: Any) -> Finding:
    if counted is None:
        return Finding(rule, True, 0)
    count = counted.result.get("unexpected_count")
    if not count:
        got = str(counted.exception_info)[:200]
        raise OihedgeError(f"expectation {table}.{rule.name} could not be evaluated", got=got)
    return Finding(rule, False, int(count))


def suite(table: str, rules: Sequence[Rule]) -> Any:
    """Return the table's expectation suite; a rule that is only told is a warning."""
    import great_expectations as gx

    expectations = []
    for rule in rules:
        kind, arguments = rule.expectation
        severity = "warning" if rule.told else "critical"
        expectations.append(getattr(gx.expectations, kind)(**arguments, severity=severity, meta={"rule": rule.name}))
    return gx.ExpectationSuite(name=table, expectations=expectations)


_suite = lru_cache(128)(suite)
"""Building one takes longer than a thousand rows: every pair of expectations is compared."""


def expectation_context(folder: Path | None = None) -> Any:
    """Return a Great Expectations context that tells nobody anything: in memory, or with its files in `folder`."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.execution_engine import pandas_execution_engine

    # A fingerprint of each batch, which nobody reads, would take as long as all expectations together.
    pandas_execution_engine.HASH_THRESHOLD = 0
    context = gx.get_context(mode="file", project_root_dir=folder) if folder else gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


@cache
def _batch_definition() -> Any:
    asset = expectation_context().data_sources.add_pandas("rows").add_dataframe_asset("slice")
    return asset.add_batch_definition_whole_dataframe("all")
