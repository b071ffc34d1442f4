"""Search for the forecaster's hyper-parameters on hours before any test window; nothing is registered or promoted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from pydantic import ValidationError

from oihedge import __version__
from oihedge.config import Config
from oihedge.core.clock import iso
from oihedge.core.errors import ConfigError, DataError, ModelError
from oihedge.core.hashing import code_version, digest
from oihedge.core.protocols import Progress, silent
from oihedge.evaluation.folds import Fold
from oihedge.forecast.memory import lean_memory
from oihedge.jobs.epochs import told
from oihedge.jobs.evaluate import known_by, lay_folds, train, window_of
from oihedge.jobs.featuring import FeatureSet, features
from oihedge.jobs.opening import open_registry
from oihedge.registry.client import ActiveRun, Registry
from oihedge.search.study import Study, Trial


class CutShort(Exception):
    """A trial whose loss is not worth going on for."""


@dataclass(frozen=True)
class SearchReport:
    """How a search stands; `trials` best first, `overrides` to retrain with, empty where no trial was completed."""

    run_id: str
    as_of: datetime
    label: str
    judged_until: datetime
    """No row after this was read: the oldest test window begins later."""
    wanted: int
    before: int
    """How many of the trials had ended before this run."""
    trials: tuple[dict[str, Any], ...]
    overrides: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(
    config: Config, *, as_of: datetime, trials: int | None = None, timeout_s: float | None = None,
    progress: Progress = silent,
) -> SearchReport:  # fmt: skip
    """Try settings until `trials` have ended or `timeout_s` is over; a killed search goes on with its trials.

    A trial is one fit on the oldest fold's training window, judged by its held-back tail's quantile loss. The same
    features, settings (but the searched ones), space and code are the same search.

    Args:
        config: settings; `search` holds the space, and what trials and timeout_s are when None.
        as_of: the instant to work at.
        trials: how many in all, those of earlier runs included.
        timeout_s: no trial begins later than this.
        progress: told of trials, and of the epochs of each.

    Raises:
        DataError: for an empty window or too little history.
        ConfigError: for a space that forecast's settings do not allow, or a model that has nothing to train.
    """
    lean_memory()
    wanted, limit = trials or config.search.trials, timeout_s or config.search.timeout_s
    began = time.monotonic()
    feature_set = features(config, as_of=as_of, start=as_of - timedelta(days=config.run.history_days))
    oldest = lay_folds(config, feature_set.past)[0]
    name = _name(config, feature_set)
    study = Study(config.path(config.run.data) / "search.db", name, config.search, config.forecast.seed)
    registry, before = open_registry(config), study.ended
    tags = {"search_key": name, "as_of": iso(as_of), "label": config.run.title}
    params = {f"search.{setting}": told for setting, told in _space(config).items()}
    earlier = registry.search_run(name)
    with registry.run(f"search {iso(as_of)}", tags=tags, params=params, resume=earlier) as top:
        registry.abandon_nested(top.run_id)
        while (done := study.ended) < wanted and (limit is None or time.monotonic() - began < limit):
            progress(done, wanted, f"trial {done + 1}")
            _try(config, registry, study, top.run_id, feature_set.past, oldest, progress)
        progress(min(study.ended, wanted), wanted, "search done")
        best = study.best()
        rows = tuple(study.rows())
        report = SearchReport(
            top.run_id, as_of, config.run.title, oldest.calibration_end, wanted, before, rows,
            tuple(f"forecast.{key}={value}" for key, value in best.items()),
        )  # fmt: skip
        _record(top, report)
    return report


def _name(config: Config, feature_set: FeatureSet) -> str:
    fixed = config.forecast.model_dump(mode="json", exclude=set(config.search.names))
    laid = config.evaluation.model_dump(mode="json", include={"folds", "test_days", "purge_h"})
    return digest([feature_set.content, fixed, _space(config), laid, code_version(__version__)])


def _space(config: Config) -> dict[str, Any]:
    """Return the settings of the search less those that may differ when it goes on."""
    return config.search.model_dump(mode="json", exclude={"trials", "timeout_s"})


def _try(
    config: Config, registry: Registry, study: Study, parent: str, rows: pl.DataFrame, fold: Fold, progress: Progress
) -> None:
    """Make one trial in a nested run; one that fails by its data or its loss says so and does not end the search."""
    trial = study.ask()
    tags = {"trial": str(trial.number)}
    try:
        with registry.run(f"trial {trial.number}", tags=tags, params=trial.values, parent=parent) as active:
            loss, whole = _loss(_with(config, trial.values), rows, fold, trial, active, progress)
            active.metrics({"best_val_loss": loss})
            active.tags({"state": "complete" if whole else "cut short"})
            study.tell(trial, loss, whole=whole)
    except (DataError, ModelError) as error:
        study.fail(trial, str(error))


def _with(config: Config, values: Mapping[str, Any]) -> Config:
    try:
        forecast = type(config.forecast).model_validate({**config.forecast.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"search tries forecast.{where}={first['input']!r}: {first['msg']}") from None
    return config.model_copy(update={"forecast": forecast})


def _loss(
    config: Config, rows: pl.DataFrame, fold: Fold, trial: Trial, active: ActiveRun, progress: Progress
) -> tuple[float, bool]:
    """Return the least loss of the held-back tail, and whether the training went on to its end."""
    losses: list[float] = []

    def report(epoch: int, metrics: Mapping[str, float]) -> None:
        active.epoch(epoch, metrics)
        losses.append(metrics.get("val_loss", float("inf")))
        if not trial.goes_on(epoch, losses[-1]):
            raise CutShort

    watched = told(progress, f"trial {trial.number + 1}", config.forecast.max_epochs, report)
    whole = True
    try:
        train(config, known_by(rows, fold), window_of(fold), report=watched)
    except CutShort:
        whole = False
    if not losses:
        raise ConfigError(
            f"forecast.model {config.forecast.model} has no epochs to judge", do="search for a model that trains"
        )
    return min(losses), whole


def _record(active: ActiveRun, report: SearchReport) -> None:
    done = [row["loss"] for row in report.trials if row["loss"] is not None]
    active.metrics({"trials": float(len(report.trials)), **({"best_val_loss": min(done)} if done else {})})
    active.json("search.json", report.as_dict())
