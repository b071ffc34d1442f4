"""The five signals of one feature row: their values, which of them confirm, how deep, and whether all is calm again."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from oihedge.core.errors import SchemaError
from oihedge.hedge.settings import Hedge, Signals

SOURCES: Mapping[str, str] = {
    "oi_divergence": "oi_divergence",
    "venue_divergence": "venue_divergence",
    "oi_price_gap": "oi_price_gap_z",
    "funding_stress": "funding_z",
    "p_unwind": "p_unwind",
}
"""Signal to the column it is read from."""
SIGNALS = tuple(SOURCES)
REQUIRED = ("spot_price", "volatility", "oi_divergence")
_FORECAST = ("p_unwind", "p_unwind_base")
_OPTIONAL = ("oi_divergence_rank", "n_oi_venues", "n_oi_tracked", "venue_divergence", "oi_price_gap_z", "funding_z")
_RAREST, _MOST_LIKELY = 0.01, 0.95
"""A base rate counts as at least this, so that next to nothing is no multiple of nothing; a threshold at most this, so
that certainty always reaches it."""

_MOST = 0.5


def read(features: pl.DataFrame, forecasts: pl.DataFrame | None, settings: Hedge) -> pl.DataFrame:
    """Read every signal, row by row; no row sees another.

    Args:
        features: asset, ts, available_at and feature columns; a signal whose column is not there is not configured and
            drops out of the confirmations.
        forecasts: asset, ts, p_unwind, p_unwind_base; None: decide without a model.
        settings: thresholds.

    Returns:
        Sorted by asset and ts: asset, ts, available_at, one Float64 column per signal (oi_price_gap and funding_stress
        as z-scores; null: not known), p_unwind_base, volatility, oi_leader, confirmations (names of the signals that
        confirm), depth (0..3, of the deeper of oi_divergence and p_unwind), calm (divergence, funding and p_unwind have
        normalised), problems (why the row cannot be decided on) and notes (what is missing or risky but does not stop
        it).

    Raises:
        SchemaError: if a required column is missing.
    """
    rows = _prepared(features, forecasts)
    given = {name for name in SIGNALS if SOURCES[name] in features.columns}
    given |= {"p_unwind"} if forecasts is not None else set()
    far = pl.when(pl.col("asset").is_in(list(settings.signals.majors))).then(1.0)
    rows = rows.with_columns(far.otherwise(settings.signals.altcoin_factor).alias("far"))
    rows = rows.with_columns(
        pl.max_horizontal(_divergence_depth(settings.signals), _p_unwind_depth(settings.signals)).alias("depth"),
        _names({name: rule for name, rule in _confirming(settings.signals).items() if name in given}, "confirmations"),
        _calm(settings.signals, given).alias("calm"),
        _names(_problems(settings, forecasts is not None), "problems"),
        _names(_notes(settings.signals, given), "notes"),
    )
    values = [pl.col(source).alias(name) for name, source in SOURCES.items()]
    told = ["p_unwind_base", "volatility", "oi_leader", "confirmations", "depth", "calm", "problems", "notes"]
    return rows.select("asset", "ts", "available_at", *values, *told)


def _prepared(features: pl.DataFrame, forecasts: pl.DataFrame | None) -> pl.DataFrame:
    _require(features, ("asset", "ts", "available_at", *REQUIRED), "feature rows")
    numbers = [_finite(features, name) for name in (*REQUIRED, *_OPTIONAL)]
    leader = pl.col("oi_leader") if "oi_leader" in features.columns else pl.lit(None, pl.String).alias("oi_leader")
    rows = features.select("asset", "ts", "available_at", *numbers, leader).sort("asset", "ts")
    if forecasts is None:
        return rows.with_columns(pl.lit(None, pl.Float64).alias(name) for name in _FORECAST)
    _require(forecasts, ("asset", "ts", *_FORECAST), "forecasts")
    numbers = [_finite(forecasts, name) for name in _FORECAST]
    told = forecasts.select("asset", pl.col("ts").cast(rows.schema["ts"]), *numbers)
    return rows.join(told.unique(["asset", "ts"], keep="first", maintain_order=True), on=["asset", "ts"], how="left")


def _require(frame: pl.DataFrame, names: tuple[str, ...], what: str) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise SchemaError(f"{what} lack column {missing[0]!r}", expected=", ".join(names), got=", ".join(frame.columns))


def _finite(frame: pl.DataFrame, name: str) -> pl.Expr:
    if name not in frame.columns:
        return pl.lit(None, pl.Float64).alias(name)
    value = pl.col(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value).alias(name)


def _names(rules: Mapping[str, pl.Expr], name: str) -> pl.Expr:
    """List, in order, the names whose rule holds; an unknown rule does not."""
    if not rules:
        return pl.lit([], pl.List(pl.String)).alias(name)
    said = [pl.when(rule).then(pl.lit(text)) for text, rule in rules.items()]
    return pl.concat_list(said).list.drop_nulls().alias(name)


def _steps(value: pl.Expr, levels: tuple[pl.Expr, pl.Expr, pl.Expr]) -> pl.Expr:
    enter, deep, extreme = ((value >= level).fill_null(False).cast(pl.Int64) for level in levels)
    return enter + deep + extreme


def _beyond(rank: float) -> pl.Expr:
    """Move a rank out as a threshold is: the share of rows beyond it shrinks by the factor."""
    return 1.0 - (1.0 - rank) / pl.col("far")


def _divergence_depth(signals: Signals) -> pl.Expr:
    value, levels, ranks = pl.col("oi_divergence"), signals.oi_divergence, signals.oi_divergence_rank
    far = pl.col("far")
    absolute = _steps(value, (levels.enter * far, levels.deep * far, levels.extreme * far))
    places = (_beyond(ranks.enter), _beyond(ranks.deep), _beyond(ranks.extreme))
    rare = _steps(pl.col("oi_divergence_rank"), places)
    rare = pl.when(value >= signals.min_build_up * far).then(rare).otherwise(0)
    modes = {"absolute": absolute, "percentile": rare, "either": pl.max_horizontal(absolute, rare)}
    return modes[signals.oi_divergence_mode]


def _probable(lift: float) -> pl.Expr:
    usual = pl.col("p_unwind_base").clip(lower_bound=_RAREST)
    return (lift * usual * pl.col("far")).clip(upper_bound=_MOST_LIKELY)


def _p_unwind_depth(signals: Signals) -> pl.Expr:
    levels = signals.p_unwind_lift
    return _steps(pl.col("p_unwind"), (_probable(levels.enter), _probable(levels.deep), _probable(levels.extreme)))


def _confirming(signals: Signals) -> dict[str, pl.Expr]:
    far, funding = pl.col("far"), pl.col("funding_z")
    stressed = funding >= signals.funding_z * far
    return {
        "oi_divergence": _divergence_depth(signals) >= 1,
        "venue_divergence": pl.col("venue_divergence") >= signals.venue_divergence * far,
        "oi_price_gap": pl.col("oi_price_gap_z") >= signals.oi_price_gap_z * far,
        "funding_stress": stressed | _squeeze(signals) if signals.squeeze_confirms else stressed,
        "p_unwind": _p_unwind_depth(signals) >= 1,
    }


def _squeeze(signals: Signals) -> pl.Expr:
    crowded_shorts = pl.col("funding_z") <= -signals.funding_z * pl.col("far")
    return crowded_shorts & (pl.col("oi_divergence") >= signals.min_build_up)


def _calm(signals: Signals, given: set[str]) -> pl.Expr:
    """What is not known has not normalised."""
    far = pl.col("far")
    rules = [pl.lit(True)]
    if signals.oi_divergence_mode != "percentile":
        rules.append(pl.col("oi_divergence") < signals.oi_divergence.exit * far)
    if signals.oi_divergence_mode != "absolute":
        ordinary = pl.col("oi_divergence_rank") < _beyond(signals.oi_divergence_rank.exit)
        rules.append(ordinary.fill_null(True) | (pl.col("oi_divergence") < signals.min_build_up * far))
    if "funding_stress" in given:
        rules.append(pl.col("funding_z") < signals.funding_z_exit * far)
    if "p_unwind" in given:
        rules.append(pl.col("p_unwind") < _probable(signals.p_unwind_lift.exit))
    return pl.all_horizontal(rules).fill_null(False)


def _problems(settings: Hedge, with_model: bool) -> dict[str, pl.Expr]:
    needed = [*REQUIRED, *(["oi_divergence_rank"] if settings.signals.oi_divergence_mode == "percentile" else [])]
    problems = {f"nan_required:{name}": pl.col(name).is_null() for name in needed}
    quorum = pl.min_horizontal(pl.lit(float(settings.quorum)), pl.col("n_oi_tracked"))
    problems["no_quorum"] = (pl.col("n_oi_venues") < quorum).fill_null(True)
    if with_model:
        problems["forecast_nan"] = pl.any_horizontal(pl.col(name).is_null() for name in _FORECAST)
    return problems


def _notes(signals: Signals, given: set[str]) -> dict[str, pl.Expr]:
    unknown = {name: pl.col(source).is_null() | pl.lit(name not in given) for name, source in SOURCES.items()}
    notes = {f"missing_signal:{name}": rule for name, rule in unknown.items() if name != "oi_divergence"}
    return {**notes, "squeeze_risk": _squeeze(signals)}


def firing_rates(rows: pl.DataFrame) -> dict[str, float]:
    """Return how often each signal confirmed, as a share of the rows that knew it; a signal never known is left out.

    Args:
        rows: what `read` or `policy.decide` returned.
    """
    rates = {}
    for name in SIGNALS:
        known = rows.filter(pl.col(name).is_not_null())
        if known.height:
            fired = known.select(pl.col("confirmations").list.contains(name).sum()).item()
            rates[name] = fired / known.height
    return rates


def ill_fitting_signals(rates: Mapping[str, float]) -> list[str]:
    """Return one warning for each signal that never confirmed, or did in most hours and so tells next to nothing."""
    often = {name: f"confirms in {rate:.0%} of the hours" for name, rate in rates.items() if rate > _MOST}
    never = {name: "never fires" for name, rate in rates.items() if rate == 0}
    said = {**often, **never}
    return [f"signal {name} {said[name]}: its threshold may not fit this market" for name in rates if name in said]
