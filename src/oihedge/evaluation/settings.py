"""Settings of evaluation/, filled from conf/evaluation/."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from oihedge.core.settings import Count, Positive, Settings, Share


class Costs(Settings):
    """What trading the hedge leg costs."""

    taker_fee: Annotated[float, Field(ge=0, lt=0.05)]
    slippage: Annotated[float, Field(ge=0, lt=0.05)]
    """Constant part, as a fraction of notional."""


class Baselines(Settings):
    """The plain hedges that move."""

    window_h: Annotated[int, Field(ge=24)]
    """Past hours from which minimum variance and volatility target are estimated."""
    rebalance_h: Count
    volatility_target: Positive
    """Annual volatility of what stays unhedged."""
    max_ratio: Annotated[float, Field(gt=0, le=2)]
    """Cap of any baseline, also once rescaled."""


class Gates(Settings):
    """Thresholds of promotion; nothing loosens them at run time."""

    min_quality_share: Share
    min_quantile_skill: float
    """Quantile loss: 1 - model / persistence, over all folds; must be above."""
    min_brier_skill: float
    """p_unwind against the climatology of the training window; must be above."""
    max_coverage_error: Share
    min_unseen_hours: Count
    """Hours that neither has seen, below which challenger and champion cannot be compared: the champion stays."""
    min_folds_won: Share
    max_latency_s: Positive
    min_mean_ratio: Share
    max_cvar_difference: float
    """Upper bound of the block-bootstrap interval of CVaR 95 (policy - rescaled baseline) must be at or below."""
    confidence: Share
    bootstrap_draws: Count
    bootstrap_block_h: Count
    """Length of the moving blocks; several times the 24 h of the overlapping returns."""
    bootstrap_seed: int
    max_volatility_excess: Annotated[float, Field(ge=0)]
    max_drawdown_excess: Annotated[float, Field(ge=0)]
    max_return_shortfall: Annotated[float, Field(ge=0)]


class Evaluation(Settings):
    """Walk-forward, backtest and gates."""

    folds: Annotated[int, Field(ge=3)]
    test_days: Count
    purge_h: Count
    latency_s: Annotated[float, Field(ge=0)]
    hedge_venue: str
    costs: Costs
    baselines: Baselines
    gates: Gates
