"""Walk-forward and hedge backtest of the configured recipe, on rows known at as_of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from oihedge.config import Config
from oihedge.core.clock import HOUR, iso
from oihedge.core.errors import DataError
from oihedge.core.protocols import EpochReporter, FittedModel, Progress, silent
from oihedge.core.tables import UTC_TIME
from oihedge.evaluation.folds import Fold, folds
from oihedge.evaluation.metrics import plain
from oihedge.evaluation.verdict import verdict
from oihedge.evaluation.walk_forward import Evaluated, Inputs, walk_forward
from oihedge.features.build import columns
from oihedge.features.calendar import with_calendar
from oihedge.features.labels import unwind_label
from oihedge.forecast.fit import Fitted, fit, quiet
from oihedge.forecast.memory import kept_memory, lean_memory
from oihedge.forecast.panel import input_columns
from oihedge.forecast.spread import at_edge
from oihedge.hedge.policy import decide
from oihedge.hedge.signals import firing_rates, ill_fitting_signals
from oihedge.jobs.epochs import told
from oihedge.jobs.featuring import FeatureSet, features, keep, market_frames


@dataclass(frozen=True)
class EvaluateReport:
    """What is printed: strategies (out of sample, all folds), forecast scores, and what market it was."""

    as_of: datetime
    label: str
    price_label: str
    oos_days: float
    model: str
    strategies: tuple[dict[str, Any], ...]
    scores: dict[str, Any]
    firing_rates: dict[str, float]
    """Share of unseen hours at which each signal confirmed; one that never fires is among `warnings`."""
    warnings: tuple[str, ...]
    verdict: tuple[str, ...]
    """In words: whom the policy beats, and to whom it loses."""
    features_version: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        named = {row["strategy"]: {k: v for k, v in row.items() if k != "strategy"} for row in self.strategies}
        return {
            "as_of": iso(self.as_of), "label": self.label, "price_label": self.price_label, "oos_days": self.oos_days,
            "model": self.model, "features_version": self.features_version, "strategies": named,
            "scores": self.scores, "firing_rates": self.firing_rates, "warnings": list(self.warnings),
            "verdict": list(self.verdict),
        }  # fmt: skip


@dataclass(frozen=True)
class Assessment:
    """A walk-forward with everything that a retrain needs beside its figures."""

    evaluated: Evaluated
    feature_set: FeatureSet
    report: EvaluateReport


@dataclass(frozen=True)
class WithCalendar:
    """A model that receives its known-future columns: rows after the newest one, calendar filled, all else null."""

    model: FittedModel
    config: Config
    kind: str = field(default="with_calendar")

    @property
    def shape(self) -> tuple[int, int]:
        """That of the model itself."""
        return self.model.shape

    def predict(self, rows: pl.DataFrame, at: Sequence[datetime] | None = None) -> pl.DataFrame:
        """Forecast as `FittedModel.predict` does, from rows that may end at the last instant asked for."""
        return self.model.predict(extend(self.read(rows, at), self.config), at)

    def read(self, rows: pl.DataFrame, at: Sequence[datetime] | None) -> pl.DataFrame:
        """Return the rows that forecasts at `at` read: of years of history, none is laid out for one week's.

        What is wrong with older rows, no forecast asks. All rows where none is recent: the model then says what it has.
        """
        if at is None or not len(at) or rows.schema["ts"] != UTC_TIME:
            return rows
        recent = rows.filter(pl.col("ts") > min(at).astimezone(UTC) - self.shape[0] * HOUR)
        return rows if recent.is_empty() else recent

    def save(self, folder: Path) -> None:
        """Save the model itself."""
        self.model.save(folder)


@dataclass(frozen=True)
class AtTheTime(WithCalendar):
    """A model asked about the past: it says what it could have said then, from windows that were known in time."""

    def predict(self, rows: pl.DataFrame, at: Sequence[datetime] | None = None) -> pl.DataFrame:
        """Forecast, and leave out what reads rows that came too late, however far back in its window."""
        known = in_time(self.config, self.read(rows, at), self.shape[0])
        with kept_memory():
            told = super().predict(rows, at)
        return told.join(known, on=["asset", "ts"], how="semi")


def extend(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Append `horizon_h` hours per asset after its newest row, with only the known-future columns filled."""
    ahead = pl.DataFrame({"ahead": [HOUR * step for step in range(1, config.forecast.horizon_h + 1)]})
    newest = rows.group_by("asset").agg(pl.col("ts").max())
    future = newest.join(ahead, how="cross").select("asset", ts=pl.col("ts") + pl.col("ahead"))
    filled = with_calendar(future.lazy(), config.features).collect()
    return pl.concat([rows, filled], how="diagonal_relaxed").sort("asset", "ts")


def train(
    config: Config,
    rows: pl.DataFrame,
    window: Mapping[str, datetime],
    *,
    report: EpochReporter = quiet,
    model: str | None = None,
    checkpoint: Path | None = None,
    start_from: FittedModel | None = None,
) -> Fitted:
    """Fit the configured forecaster (or `model`) on `window` (train_start, train_end, calibration_end).

    `checkpoint` and `start_from` are those of `forecast.fit.fit`.
    """
    settings = config.forecast if model is None else config.forecast.model_copy(update={"model": model})
    roles = columns(config.features)
    return fit(rows, roles, settings, report=report, checkpoint=checkpoint, start_from=start_from, **window)


def lay_folds(config: Config, rows: pl.DataFrame) -> list[Fold]:
    """Return the walk-forward's folds over `rows`, oldest first.

    Raises:
        DataError: for too little history.
    """
    first, newest = usable_span(config, rows)
    last = newest - (config.forecast.horizon_h - 1) * HOUR
    return folds(first, last, config.evaluation, config.forecast.train_days, config.forecast.calibration_days)


def known_by(rows: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    """Return the feature rows that were known when the fold's model would have gone to work."""
    return rows.filter(pl.col("available_at") <= fold.test_start)


def in_time(config: Config, rows: pl.DataFrame, window_h: int = 1) -> pl.DataFrame:
    """Return the feature rows known in time to decide on, when all of the `window_h` hours that end there were as well.

    A model asked when such a row came would have found its window whole, and answered what it answers now.
    """
    known = pl.col("available_at")
    window = known.rolling_max_by("ts", window_size=f"{window_h}h").over("asset")
    return rows.filter(known - pl.col("ts") <= config.hedge.max_data_age, window <= known)


def window_of(fold: Fold) -> dict[str, datetime]:
    """Return what `train` may read of a fold; it ends the purge before the test window."""
    return {"train_start": fold.train_start, "train_end": fold.train_end, "calibration_end": fold.calibration_end}


def decisions_of(config: Config, rows: pl.DataFrame, forecasts: pl.DataFrame | None) -> pl.DataFrame:
    """Run the hedge policy (None: the model-free rule) over feature rows that were known in time to decide on."""
    return decide(in_time(config, rows), forecasts, config.hedge, {}).rows


def assess(
    config: Config, *, as_of: datetime, progress: Progress = silent, checkpoints: Path | None = None,
    built: FeatureSet | None = None,
) -> Assessment:  # fmt: skip
    """Evaluate the recipe on every fold.

    Each fold's model is trained from scratch, whatever `forecast.warm_start` says: the champion has seen test windows.

    Args:
        config: the recipe.
        as_of: the instant to work at.
        progress: told of folds, and of the epochs of each.
        checkpoints: folder where each fold's training is kept, for a run that is killed.
        built: the features of `config.run.history_days` as of then, where they are at hand.

    Raises:
        DataError: for an empty window or too little history.
    """
    feature_set = built or features(config, as_of=as_of, start=as_of - timedelta(days=config.run.history_days))
    rows = feature_set.past
    first, _ = usable_span(config, rows)
    laid = lay_folds(config, rows)
    prices, funding = market_frames(config, as_of=as_of, start=first)
    inputs = Inputs(
        features=rows, prices=prices, funding=funding, holdings=config.hedge.portfolio.quantities,
        labels=unwind_label(rows, config.forecast.horizon_h, config.forecast.drop),
        quantiles=config.forecast.quantiles, horizon_h=config.forecast.horizon_h,
    )  # fmt: skip
    warnings: list[str] = []

    def fit_fold(fold: Fold) -> tuple[FittedModel, FittedModel]:
        window, name = window_of(fold), f"fold {fold.index + 1}"
        kept = checkpoints / f"{name}.safetensors" if checkpoints else None
        report = told(progress, name, config.forecast.max_epochs, quiet)
        known = known_by(rows, fold)
        mine = train(config, known, window, report=report, checkpoint=kept)
        plain = train(config, known, window, model="persistence")
        warnings.extend(f"{name}: {line}" for line in warnings_of(mine.facts))
        return AtTheTime(mine, config), AtTheTime(plain, config)

    evaluated = walk_forward(
        inputs, laid, config.evaluation, fit=fit_fold, progress=progress,
        decide=lambda some, forecasts: decisions_of(config, some, forecasts),
    )  # fmt: skip
    # Kept only now: a window that turns out too short leaves the lake as it was.
    version = keep(config, feature_set, as_of)
    return Assessment(evaluated, feature_set, _report(config, as_of, evaluated, feature_set, version, warnings))


def warnings_of(facts: Mapping[str, Any]) -> list[str]:
    """Return what an operator ought to know of how a fit went, as its `facts` tell it."""
    late = ["training was cut at forecast.max_train_s: another machine, or this one again, gives other weights"]
    return [*at_edge(facts.get("spread", {})), *(late if facts.get("stopped_by") == "time" else [])]


def usable_span(config: Config, rows: pl.DataFrame) -> tuple[datetime, datetime]:
    """Return the first and the last instant at which every asset has all the inputs that a forecast takes.

    Raises:
        DataError: naming the asset and column that never are there together.
    """
    needed = input_columns(columns(config.features), config.forecast.targets)
    complete = rows.drop_nulls(list(needed)).group_by("asset").agg(first=pl.col("ts").min(), last=pl.col("ts").max())
    for asset in config.features.assets:
        if asset not in complete["asset"]:
            mine = rows.filter(pl.col("asset") == asset)
            empty = [name for name in needed if mine[name].null_count() == mine.height]
            raise DataError(
                f"{asset} has no hour with every feature", got=f"nothing in {', '.join(empty)}" if empty else "holes",
                do="import or ingest more of its tables, or take the asset or venue out of features",
            )  # fmt: skip
    first, last = complete["first"].max(), complete["last"].min()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return first, last


def run(config: Config, *, as_of: datetime, progress: Progress = silent) -> EvaluateReport:
    """Evaluate and return the tables; nothing is registered."""
    lean_memory()
    return assess(config, as_of=as_of, progress=progress).report


def _late(config: Config, rows: pl.DataFrame) -> list[str]:
    """Say how many hours the backtest could not forecast at because a row they look back on came late."""
    late = rows.height - in_time(config, rows, config.forecast.encoder_h).height
    return [f"{late} of {rows.height} feature rows look back on data that came late: no forecast there"] if late else []


def _ended(config: Config, as_of: datetime) -> list[str]:
    """Say which event calendars hold no date ahead: to a model it looks as if none were to come."""
    over = [name for name in config.features.events if not any(at > as_of for at in config.features.event_times[name])]
    return [f"calendar {name} has no date after {as_of:%F}: bring it up to date" for name in over]


def _report(
    config: Config, as_of: datetime, evaluated: Evaluated, feature_set: FeatureSet, version: int, of_fits: list[str]
) -> EvaluateReport:
    rates = firing_rates(evaluated.decisions)
    warnings = [*ill_fitting_signals(rates), *_late(config, feature_set.past), *_ended(config, as_of), *of_fits]
    return EvaluateReport(
        as_of, config.run.label, config.run.price_label, evaluated.oos_days, config.forecast.model,
        tuple(evaluated.rows()), plain(evaluated.scores), rates, tuple(warnings),
        tuple(verdict(evaluated.rows())), version,
    )  # fmt: skip
