"""The challenger's recipe against the champion on hours that neither has seen."""

from __future__ import annotations

import polars as pl

from oihedge.config import Config
from oihedge.core.errors import DataError, ModelError, one_line
from oihedge.core.forecasts import PATH_TARGETS
from oihedge.evaluation.gates import ChampionComparison
from oihedge.evaluation.grid import require_columns
from oihedge.evaluation.scores import align, same_instants, score, skill
from oihedge.features.labels import unwind_label
from oihedge.jobs.champion import champion_model
from oihedge.jobs.evaluate import Assessment, AtTheTime
from oihedge.registry.client import Registry


def against_champion(config: Config, registry: Registry, assessment: Assessment) -> ChampionComparison | None:
    """Score both on the test hours after the champion's own training; None where there is no champion.

    The challenger's side are the walk-forward's forecasts, made by models that had not seen those hours either. A
    champion trained less than the horizon ago leaves no such hour: the gate then refuses, and the champion stays. So it
    does where the champion is damaged, needs other inputs, lacks an asset, or forecasts other quantiles or another
    event, and says which.
    """
    champion = registry.champion()
    if champion is None:
        return None
    rows, forecasts = assessment.feature_set.past, assessment.evaluated.forecasts
    if champion.trained_as_of is not None:
        forecasts = forecasts.filter(pl.col("ts") > champion.trained_as_of)
    instants = forecasts["ts"].unique().sort().to_list()
    if not instants:
        return ChampionComparison(champion.version, float("nan"), 0)
    try:
        theirs = AtTheTime(champion_model(config, registry, champion), config).predict(rows, instants)
        ours_too = tuple(name for name in forecasts.columns if name.startswith(PATH_TARGETS))
        require_columns(theirs, ours_too, "the champion's forecasts")
    except (DataError, ModelError) as error:
        return ChampionComparison(champion.version, float("nan"), 0, one_line(error))
    ours, other = same_instants(forecasts, theirs)
    if other.is_empty():  # it looks back further than the challenger, on rows that came late
        return ChampionComparison(champion.version, float("nan"), 0)
    labels = unwind_label(rows, config.forecast.horizon_h, config.forecast.drop)
    base = dict.fromkeys(config.features.assets, 0.0)
    mine, rival = (score(align(frame, rows, labels, base), config.forecast.quantiles) for frame in (ours, other))
    return ChampionComparison(champion.version, skill(mine, rival), other["ts"].n_unique())
