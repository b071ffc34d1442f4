"""The only door to Great Expectations: a suite from rules, its verdict as counts. Importing it takes seconds: late."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from oihedge.core.errors import OihedgeError
from oihedge.quality.rules import Rule

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Finding:
    """What the suite found for one rule."""

    rule: Rule
    passed: bool
    bad_count: int


def validate(table: str, frame: pl.DataFrame, rules: Sequence[Rule]) -> list[Finding]:
    """Let Great Expectations decide every rule on the checked frame.

    Counts only: asking it for the row numbers (COMPLETE) takes a hundred times as long when many rows are bad.

    Raises:
        OihedgeError: if an expectation could not be evaluated.
    """
    needed = [name for name in frame.columns if any(name in _columns(rule) for rule in rules)]
    with _one_at_a_time:
        batch = _batch_definition().get_batch(batch_parameters={"dataframe": frame.select(needed).to_pandas()})
        results = batch.validate(_suite(table, rules), result_format="BASIC").results
    by_name = {result.expectation_config.meta["rule"]: result for result in results}
    return [_finding(table, rule, by_name[rule.name]) for rule in rules]


def _columns(rule: Rule) -> set[Any]:
    _, arguments = rule.expectation
    return {arguments.get(name) for name in ("column", "column_A", "column_B")}


def _finding(table: str, rule: Rule, result: Any) -> Finding:
    count = result.result.get("unexpected_count")
    if count is None:
        raise OihedgeError(
            f"expectation {table}.{rule.name} could not be evaluated", got=str(result.exception_info)[:200]
        )
    return Finding(rule, bool(result.success), int(count))


def _suite(table: str, rules: Sequence[Rule]) -> Any:
    import great_expectations as gx

    expectations = []
    for rule in rules:
        kind, arguments = rule.expectation
        expectations.append(getattr(gx.expectations, kind)(**arguments, meta={"rule": rule.name}))
    return gx.ExpectationSuite(name=table, expectations=expectations)


@cache
def _batch_definition() -> Any:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("slice")
    return asset.add_batch_definition_whole_dataframe("all")
