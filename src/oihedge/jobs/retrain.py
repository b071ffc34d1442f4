"""Train, evaluate, judge and register one model version; promotion is another job."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from oihedge import __version__
from oihedge.config import Config
from oihedge.core.clock import HOUR, iso
from oihedge.core.errors import ModelError, OihedgeError, is_out_of_memory, one_line
from oihedge.core.hashing import code_version, digest
from oihedge.core.protocols import FittedModel, Progress, silent
from oihedge.core.types import Gate, ModelRef
from oihedge.evaluation.gates import gates, passed
from oihedge.evaluation.joint import outcomes
from oihedge.evaluation.leakage import leakage_probe
from oihedge.evaluation.metrics import plain
from oihedge.features.build import columns
from oihedge.features.calendar import known_columns
from oihedge.forecast.fit import Fitted
from oihedge.forecast.frames import at_horizon
from oihedge.forecast.interpret import Interpretation, interpret
from oihedge.forecast.load import load
from oihedge.forecast.memory import lean_memory
from oihedge.forecast.panel import input_columns
from oihedge.forecast.scenarios import JointPaths
from oihedge.jobs.comparison import against_champion
from oihedge.jobs.epochs import told
from oihedge.jobs.evaluate import (
    Assessment,
    WithCalendar,
    assess,
    decisions_of,
    extend,
    train,
    usable_span,
    warnings_of,
)
from oihedge.jobs.featuring import features
from oihedge.jobs.opening import open_lake, open_registry
from oihedge.jobs.validate import worst_share
from oihedge.registry.client import ActiveRun, Registry

SERVED_MODEL = Path(__file__).resolve().parents[1] / "served_model.py"
SAMPLE_H = 4


@dataclass(frozen=True)
class RetrainReport:
    """One finished retrain: its run and version, whether the gates held, and the tables."""

    run_id: str
    model: str
    version: str
    reused: bool
    passed: bool
    gates: tuple[dict[str, Any], ...]
    strategies: tuple[dict[str, Any], ...]
    scores: dict[str, Any]
    firing_rates: dict[str, float]
    warnings: tuple[str, ...]
    verdict: tuple[str, ...]
    oos_days: float
    label: str
    price_label: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def run(config: Config, *, as_of: datetime, progress: Progress = silent) -> RetrainReport:
    """Retrain as of `as_of`, or return the finished run of the same key.

    The key is (as_of, the features' content, config hash, code version, and with forecast.warm_start the champion's
    version): the same inputs train once. A run that was killed goes on at the last epoch that it had finished.

    Raises:
        DataError: for an empty window or too little history; the run is marked failed with its reason.
        ModelError: if the registered model does not reproduce the trainer's output; it then gets no alias.
        OihedgeError: if memory does not suffice.
    """
    lean_memory()
    registry = open_registry(config)
    feature_set = features(config, as_of=as_of, start=as_of - timedelta(days=config.run.history_days))
    start = registry.champion_before(as_of) if config.forecast.warm_start else None
    made_of = [feature_set.content, config.hash, code_version(__version__), *([start.version] if start else [])]
    key = digest([iso(as_of), *made_of])
    # Without as_of: a retrain of now that is killed goes on when it is started again, which is another now.
    checkpoints = config.path(config.run.data) / "checkpoints" / digest(made_of)
    done = registry.finished(key)
    if done is not None:
        _announce(registry, done)
        return _report(registry, done, reused=True)
    tags = {
        "retrain_key": key, "as_of": iso(as_of), "features_content": feature_set.content,
        "config_hash": config.hash, "code_version": code_version(__version__), "label": config.run.title,
        "simulated": str(config.simulated).lower(),
    }  # fmt: skip
    with (
        registry.run(f"{config.forecast.model} {iso(as_of)}", tags=tags, params=_parameters(config)) as active,
        _told_of_memory(),
    ):
        registry.abandon_others(active.run_id)
        active.environment()
        progress(0, 3, "walk-forward")
        assessment = assess(config, as_of=as_of, progress=progress, checkpoints=checkpoints, built=feature_set)
        active.tags({"features_version": str(assessment.report.features_version)})
        progress(1, 3, "final fit")
        model, epochs = _final_fit(config, assessment, active, checkpoints, _loaded(registry, start), progress)
        progress(2, 3, "registering")
        version = _register(config, registry, active, model, assessment)
        champion = registry.champion()
        verdicts = _judge(config, registry, assessment, model, as_of)
        _log(config, active, assessment, model, verdicts, epochs, champion.version if champion else "")
    _announce(registry, version)
    shutil.rmtree(checkpoints.parent, ignore_errors=True)  # what killed runs of earlier hours left goes too
    progress(3, 3, f"version {version.version}")
    return _report(registry, version, reused=False)


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """Say in one line what to lower where memory did not suffice outside a fit, which tells more."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OihedgeError(
            "out of memory",
            got=one_line(error),
            do="lower forecast.batch_size, hidden_size, encoder_h or scenario_paths",
        ) from error


def _announce(registry: Registry, version: ModelRef) -> None:
    """Make `version` the challenger, unless a later one is: a killed run may have ended just before it did."""
    newest = registry.challenger()
    if newest is None or int(newest.version) < int(version.version):
        registry.set_alias("challenger", version)


def _parameters(config: Config) -> dict[str, Any]:
    groups = {"forecast": config.forecast, "evaluation": config.evaluation, "features": config.features}
    return {
        f"{group}.{name}": value for group, it in groups.items() for name, value in it.model_dump(mode="json").items()
    }


def _loaded(registry: Registry, version: ModelRef | None) -> FittedModel | None:
    """Return what a warm start begins from; a damaged champion is none, and keeps no retrain from its end."""
    try:
        return None if version is None else load(registry.model_folder(version))
    except ModelError as error:
        logging.getLogger(__name__).warning("no warm start: %s", one_line(error))
        return None


def _final_fit(
    config: Config,
    assessment: Assessment,
    active: ActiveRun,
    checkpoints: Path,
    start_from: FittedModel | None,
    progress: Progress,
) -> tuple[Fitted, list[dict[str, float]]]:
    """Fit on the newest window; the last calibration_days are held back for calibration."""
    rows = assessment.feature_set.past
    first, newest = usable_span(config, rows)
    train_end = newest - timedelta(days=config.forecast.calibration_days) - config.evaluation.purge_h * HOUR
    start = max(first, train_end - timedelta(days=config.forecast.train_days))
    epochs: list[dict[str, float]] = []

    def report(epoch: int, metrics: Mapping[str, float]) -> None:
        epochs.append(dict(metrics))
        active.epoch(epoch, metrics)

    window = {"train_start": start, "train_end": train_end, "calibration_end": newest}
    watched = told(progress, "final fit", config.forecast.max_epochs, report)
    kept = checkpoints / "final.safetensors"
    model = train(config, rows, window, report=watched, checkpoint=kept, start_from=start_from)
    active.tags({"training": str(model.facts.get("start", ""))})
    return model, epochs


def _register(
    config: Config, registry: Registry, active: ActiveRun, model: FittedModel, assessment: Assessment
) -> ModelRef:
    """Save, register, load back and predict; a version that differs from its trainer gets no alias."""
    folder = config.path(config.run.data) / "models" / active.run_id
    model.save(folder)
    _, newest = usable_span(config, assessment.feature_set.past)
    sample = sample_rows(config, assessment.feature_set.past, newest)
    version = registry.register(active, folder, code_path=SERVED_MODEL, example=_naive(sample))
    ours = model.predict(sample, [newest])
    loaded = load(registry.model_folder(version)).predict(sample, [newest])
    served = registry.pyfunc_predict(version, _naive(sample))
    for name, other in (("loaded", loaded), ("served", pl.from_pandas(served))):
        if not _agrees(ours, other):
            raise ModelError(f"the {name} model of version {version.version} does not predict what its trainer did",
                             do="the version gets no alias; see its run")  # fmt: skip
    return version


def sample_rows(config: Config, rows: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Return the rows that one forecast at `at` needs, the known future included."""
    since = at - (config.forecast.encoder_h + SAMPLE_H) * HOUR
    needed = ["asset", "ts", *input_columns(columns(config.features), config.forecast.targets)]
    recent = rows.filter(pl.col("ts").is_between(since, at)).select(needed)
    return extend(recent, config).select(needed)


def _naive(rows: pl.DataFrame) -> Any:
    return rows.with_columns(pl.col("ts").dt.replace_time_zone(None)).to_pandas()


def _agrees(ours: pl.DataFrame, other: pl.DataFrame) -> bool:
    numbers = [name for name, dtype in ours.schema.items() if dtype.is_float()]
    a, b = (frame.sort("asset", "step").select(numbers).to_numpy() for frame in (ours, other))
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=1e-6, equal_nan=True))


def _judge(
    config: Config, registry: Registry, assessment: Assessment, model: FittedModel, as_of: datetime
) -> list[Gate]:
    evaluated, rows = assessment.evaluated, assessment.feature_set.past
    served, (_, newest) = WithCalendar(model, config), usable_span(config, rows)
    began = time.perf_counter()
    forecasts = served.predict(rows, [newest])
    decisions_of(config, rows.filter(pl.col("ts") == newest), _horizon(config, forecasts))
    latency = time.perf_counter() - began
    return gates(
        evaluated, config.evaluation.gates, quality_share=quality_share(config, as_of), latency_s=latency,
        leakage_failures=_leakage(config, assessment),
        champion=against_champion(config, registry, assessment),
    )  # fmt: skip


def _horizon(config: Config, forecasts: pl.DataFrame) -> pl.DataFrame:
    return at_horizon(forecasts, config.forecast.horizon_h)


def _leakage(config: Config, assessment: Assessment) -> int:
    """Probe the newest fold's model and the policy at three unseen instants, at which there are forecasts to probe."""
    evaluated, rows = assessment.evaluated, assessment.feature_set.past
    fold, (model, _) = evaluated.folds[-1], evaluated.models[-1]
    window = rows.filter(pl.col("ts") >= fold.test_start - timedelta(days=20), pl.col("ts") < fold.test_end)
    told = evaluated.forecasts.filter(pl.col("fold") == fold.index)["ts"].unique().sort()
    at = [told[int(share * (len(told) - 1))] for share in (0.25, 0.5, 0.75)]
    known = _horizon(config, evaluated.forecasts)
    return leakage_probe(
        window, at, predict=model.predict, decide=lambda some: decisions_of(config, some, known),
        known=known_columns(config.features), seed=config.forecast.seed,
    )  # fmt: skip


def quality_share(config: Config, as_of: datetime) -> float:
    """Return the smallest share of good rows of any venue and table over the history that was trained on."""
    return worst_share(open_lake(config), as_of - timedelta(days=config.run.history_days), as_of)


def _log(
    config: Config,
    active: ActiveRun,
    assessment: Assessment,
    model: Fitted,
    verdicts: Sequence[Gate],
    epochs: list[dict[str, float]],
    champion: str,
) -> None:
    from oihedge.evaluation import figures  # matplotlib takes a second to import

    evaluated, report, label = assessment.evaluated, assessment.report, config.run.title
    rows, asset = assessment.feature_set.past, config.features.assets[0]
    numbers = {f"{row['strategy']}.{k}": v for row in report.strategies for k, v in row.items() if isinstance(v, float)}
    numbers |= {f"gate.{gate.name}": gate.value for gate in verdicts if gate.value is not None}
    numbers |= {f"forecast.{k}": v for k, v in report.scores["model"].items() if isinstance(v, float)}
    active.metrics({**numbers, "gates_passed": float(passed(verdicts)), "oos_days": report.oos_days})
    warnings = [*report.warnings, *warnings_of(model.facts)]
    active.json("evaluation.json", {**report.as_dict(), "strategies": list(report.strategies), "warnings": warnings})
    judged = {"passed": passed(verdicts), "champion": champion, "gates": [plain(asdict(gate)) for gate in verdicts]}
    active.json("gates.json", judged)
    active.json("fit.json", model.facts)
    active.dataset(
        "features", source=str(config.lake.root), version=report.features_version,
        profile={"spec": assessment.feature_set.spec, "rows": rows.height, "first": iso(rows["ts"].min()),  # type: ignore[arg-type]
                 "last": iso(assessment.feature_set.newest)},
    )  # fmt: skip
    drawn = {
        "strategies": figures.strategies_equity(evaluated, label),
        "ratio": figures.ratio_over_market(evaluated, rows, asset, label),
        "fan": figures.quantile_fan(evaluated, rows, asset, config.forecast.quantiles, label),
        "gates": figures.gate_table(verdicts, label),
        "reliability": figures.reliability(report.scores, label),
        "loss": figures.loss_curve(epochs, label),
    }
    given_oi = _return_given_oi(config, assessment, asset)
    if given_oi is not None:
        drawn["return_given_oi"] = given_oi
    looked_at = _interpreted(config, assessment, model)
    if looked_at is not None:
        active.json("interpretation.json", looked_at.as_dict())
        note = (
            f"mean over {looked_at.windows} unseen windows, {looked_at.first:%Y-%m-%d} to {looked_at.last:%Y-%m-%d} UTC"
        )
        drawn["importance"] = figures.variable_importance(looked_at.encoder, looked_at.decoder, label, note)
        drawn["attention"] = figures.attention_by_lag(looked_at.attention, label, note)
    for name, figure in drawn.items():
        active.figure(f"{name}.png", figure)


def _return_given_oi(config: Config, assessment: Assessment, asset: str) -> Any:
    """Draw the paths of the unseen hour of highest p_unwind, by its fold's model; None where nothing draws any."""
    from oihedge.evaluation import figures

    evaluated, rows = assessment.evaluated, assessment.feature_set.past
    own = evaluated.forecasts.filter(pl.col("asset") == asset)
    if own.is_empty():
        return None
    at = figures.loudest(own)
    model: Any = evaluated.models[own.filter(pl.col("ts") == at)["fold"][0]][0]
    draw: Callable[..., JointPaths] | None = getattr(model.model, "paths", None)
    if draw is None:
        return None
    told = draw(sample_rows(config, rows, at).filter(pl.col("asset") == asset), [at])
    (came,) = outcomes(rows, told.asset, told.at, config.forecast.horizon_h)
    note = f"{asset}, {at:%Y-%m-%d %H:%M} UTC: the unseen hour of highest p_unwind"
    return figures.return_given_oi(told.changes[0], came, told.return_given_oi, config.run.title, note)


def _interpreted(config: Config, assessment: Assessment, model: FittedModel) -> Interpretation | None:
    """Ask the final model what it looks at in the calibration days, which its network was not trained on."""
    rows = assessment.feature_set.past
    _, newest = usable_span(config, rows)
    after = newest - timedelta(days=config.forecast.calibration_days)
    recent = rows.filter(pl.col("ts") > after - config.forecast.encoder_h * HOUR)
    return interpret(model, extend(recent, config), after=after)


def _report(registry: Registry, version: ModelRef, *, reused: bool) -> RetrainReport:
    verdict = registry.read_json(version.run_id, "gates.json")
    stored = registry.read_json(version.run_id, "evaluation.json")
    return RetrainReport(
        version.run_id,
        version.name,
        version.version,
        reused,
        verdict["passed"],
        tuple(verdict["gates"]),
        tuple(stored["strategies"]),
        stored["scores"],
        stored["firing_rates"],
        tuple(stored["warnings"]),
        tuple(stored["verdict"]),
        stored["oos_days"],
        stored["label"],
        stored["price_label"],
    )
