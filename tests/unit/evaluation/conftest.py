"""A small market in which leverage builds up before it falls, and an honest model of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from oihedge.evaluation.folds import Fold, folds
from oihedge.evaluation.settings import Evaluation
from oihedge.evaluation.walk_forward import Evaluated, Inputs, walk_forward

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
HORIZON = 24
DAYS = 160
ASSETS = ("BTC", "NEAR")


def settings_of(**gates: Any) -> Evaluation:
    return Evaluation.model_validate(
        {
            "folds": 3, "test_days": 20, "purge_h": 24, "latency_s": 60.0, "hedge_venue": "bybit",
            "costs": {"taker_fee": 0.0005, "slippage": 0.0003},
            "baselines": {"window_h": 240, "rebalance_h": 24, "volatility_target": 0.4, "max_ratio": 1.0},
            "gates": {
                "min_quality_share": 0.99, "min_quantile_skill": 0.0, "min_brier_skill": 0.0,
                "max_coverage_error": 0.05, "min_unseen_hours": 72,
                "min_folds_won": 0.66, "max_latency_s": 5.0, "min_mean_ratio": 0.05,
                "max_cvar_difference": 0.0, "confidence": 0.9, "bootstrap_draws": 200, "bootstrap_block_h": 72,
                "bootstrap_seed": 11, "max_volatility_excess": 0.02, "max_drawdown_excess": 0.02,
                "max_return_shortfall": 0.05, **gates,
            },
        }
    )  # fmt: skip


def synthetic(seed: int = 3, days: int = DAYS) -> Inputs:
    """Two assets, hourly; in the spells where `danger` is 1 prices and open interest fall, noisily."""
    rng, hours = np.random.default_rng(seed), days * 24
    features, prices, funding = [], [], []
    for asset in ASSETS:
        danger = np.zeros(hours + 1)
        for spell in np.flatnonzero(rng.uniform(size=hours + 1) < 1 / 250):
            danger[spell : spell + 48] = 1
        before = np.concatenate(([0.0], danger[:-1]))
        log_return = np.where(before > 0, -0.002, 0.0006) + rng.normal(size=hours + 1) * np.where(
            before > 0, 0.008, 0.004
        )
        log_oi = np.where(before > 0, -0.005, 0.0006) + rng.normal(size=hours + 1) * 0.003
        price = 100 * np.exp(np.cumsum(log_return))
        at = pl.Series("ts", [START + HOUR * n for n in range(hours + 1)])
        perp = price * (1 + 0.0003 * rng.normal(size=hours + 1))
        name = pl.lit(asset).alias("asset")
        prices.append(pl.DataFrame({"ts": at, "spot_open": price, "perp_open": perp}).with_columns(name))
        features.append(
            pl.DataFrame(
                {
                    "ts": at, "available_at": at + timedelta(seconds=5), "log_return": log_return, "log_oi": log_oi,
                    "danger": danger, "oi_base": 1e5 * np.exp(np.cumsum(log_oi)), "spot_price": price,
                }
            ).with_columns(name)
        )  # fmt: skip
        paid = at.filter(at.dt.hour() % 8 == 0)
        funding.append(pl.DataFrame({"ts": paid, "rate": np.full(len(paid), 1e-4)}).with_columns(name))
    frame = pl.concat(features)
    return Inputs(
        features=frame,
        prices=pl.concat(prices),
        funding=pl.concat(funding),
        labels=unwinds(frame),
        holdings={"BTC": 10.0, "NEAR": 5.0},
        quantiles=QUANTILES,
        horizon_h=HORIZON,
    )


def unwinds(features: pl.DataFrame, drop: float = 0.1) -> pl.DataFrame:
    parts = []
    for _, own in features.group_by("asset", maintain_order=True):
        oi = own["oi_base"].to_numpy()
        low = np.lib.stride_tricks.sliding_window_view(oi[1:], HORIZON).min(axis=1) / oi[: oi.size - HORIZON]
        fell = [bool(value) for value in low <= 1 - drop] + [None] * HORIZON
        parts.append(own.select("asset", "ts").with_columns(pl.Series("unwind", fell, dtype=pl.Boolean)))
    return pl.concat(parts)


@dataclass
class StateModel:
    """Empirical quantiles and unwind rate of the training window given a state column (None: unconditional)."""

    training: pl.DataFrame
    labels: pl.DataFrame
    state: str | None
    kind: str = "synthetic"
    spoil: Callable[[pl.DataFrame], pl.DataFrame] = field(default=lambda frame: frame)
    tables: list[pl.DataFrame] = field(default_factory=list)

    def predict(self, features: pl.DataFrame, at: list[datetime] | None = None) -> pl.DataFrame:
        rows = features if at is None else features.filter(pl.col("ts").is_in(at))
        state = pl.col(self.state).alias("state") if self.state else pl.lit(0.0).alias("state")
        steps = pl.DataFrame({"step": np.arange(1, HORIZON + 1)})
        known = rows.select("asset", "ts", state).join(steps, how="cross")
        return self.spoil(
            known.join(self.table(), on=["asset", "state", "step"]).drop("state").sort("asset", "ts", "step")
        )

    def table(self) -> pl.DataFrame:
        """Estimate once; copies share the estimate."""
        if not self.tables:
            self.tables.append(self._estimated())
        return self.tables[0]

    def _estimated(self) -> pl.DataFrame:
        state = pl.col(self.state).alias("state") if self.state else pl.lit(0.0).alias("state")
        rows = self.training.with_columns(state).join(self.labels, on=["asset", "ts"], how="left").sort("asset", "ts")
        tables = []
        for step in range(1, HORIZON + 1):
            ahead = [pl.col(name).shift(-step).over("asset").alias(name) for name in ("log_return", "log_oi")]
            levels = [
                pl.col(name).quantile(q, "linear").alias(f"{name}_q{100 * q:02.0f}")
                for name in ("log_return", "log_oi")
                for q in QUANTILES
            ]
            by_state = (
                rows.with_columns(ahead)
                .group_by("asset", "state")
                .agg(*levels, pl.col("unwind").cast(pl.Float64).mean().alias("p_unwind"))
            )
            tables.append(by_state.with_columns(pl.lit(step, dtype=pl.Int64).alias("step")))
        return pl.concat(tables)

    def save(self, folder: object) -> None:
        raise NotImplementedError


def good_decide(rows: pl.DataFrame, forecasts: pl.DataFrame | None) -> pl.DataFrame:
    """Hedge 90 % while an unwind is likely, 30 % otherwise; without a forecast 40 %."""
    if forecasts is None:
        return rows.select("asset", "ts", "available_at", pl.lit(0.4).alias("ratio"), pl.lit(0).alias("tier"))
    likely = pl.col("p_unwind") > 0.25
    joined = rows.join(forecasts.select("asset", "ts", "p_unwind"), on=["asset", "ts"], how="left")
    ratio = pl.when(likely).then(0.9).otherwise(0.3).alias("ratio")
    return joined.select("asset", "ts", "available_at", ratio, likely.cast(pl.Int64).alias("tier"))


@dataclass(frozen=True)
class Scene:
    """A walk-forward that can be run with one thing changed."""

    inputs: Inputs
    settings: Evaluation
    folds: list[Fold]
    fitted: dict[int, tuple[StateModel, StateModel]] = field(default_factory=dict)

    def fit(self, fold: Fold) -> tuple[StateModel, StateModel]:
        if fold.index not in self.fitted:
            self.fitted[fold.index] = self.estimate(self.inputs, fold)
        return self.fitted[fold.index]

    def estimate(self, inputs: Inputs, fold: Fold) -> tuple[StateModel, StateModel]:
        training = inputs.features.filter(pl.col("ts").is_between(fold.train_start, fold.train_end))
        labels = inputs.labels.filter(pl.col("ts") <= fold.train_end - HORIZON * HOUR)
        return StateModel(training, labels, "danger"), StateModel(training, labels, None)

    def run(self, *, decide=good_decide, spoil=None, inputs=None, spoil_fold=None) -> Evaluated:
        given = inputs or self.inputs

        def fit(fold: Fold) -> tuple[StateModel, StateModel]:
            model, plain = self.fit(fold) if inputs is None else self.estimate(given, fold)
            if spoil is not None and (spoil_fold is None or fold.index in spoil_fold):
                model = replace(model, spoil=spoil)
            return model, plain

        return walk_forward(given, self.folds, self.settings, fit=fit, decide=decide)


@pytest.fixture(scope="session")
def scene() -> Scene:
    settings = settings_of()
    laid = folds(START, START + timedelta(days=DAYS), settings, train_days=80, calibration_days=16)
    return Scene(synthetic(), settings, laid)


@pytest.fixture(scope="session")
def evaluated(scene: Scene) -> Evaluated:
    return scene.run()


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., Evaluation]:
    return settings_of
