"""Settings: conf/ composed by Hydra, checked by pydantic into one frozen `Config`.

`load()` is called once, at the head of a command or flow run (Hydra's compose keeps global state); everything below
receives the `Config`, or the part of it that it needs, as a value.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ValidationError, model_validator

from oihedge.core.clock import iso
from oihedge.core.errors import ConfigError
from oihedge.core.forecasts import PATH_TARGETS
from oihedge.core.hashing import digest
from oihedge.core.settings import Days, Instant, Settings
from oihedge.evaluation.settings import Evaluation
from oihedge.features.settings import Features
from oihedge.forecast.settings import Forecast
from oihedge.hedge.settings import Hedge
from oihedge.lake.settings import Lake
from oihedge.market.settings import Market
from oihedge.quality.settings import Quality
from oihedge.registry.settings import Registry
from oihedge.search.settings import Search
from oihedge.simulator.settings import Simulator

LABELS = {"embedded": "simulated market", "ccxt": "real market data", "import": "imported market data"}
_JUDGED_BY = {
    *("model", "targets", "horizon_h", "drop", "quantiles"),
    *("train_days", "calibration_days", "validation_share", "validation_windows"),
}
"""Settings of forecast that say what a loss is measured on: with another one it is another loss."""
_LENT = re.compile(r"(file://)?/\S*of_user(\.yaml)?,?")
ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
EVENTS_KNOWN = timedelta(hours=168)
"""How long before an event its date must have been published for models to know it: reach and horizon together."""
MOST_EVENT_HORIZON_H = 96
"""What EVENTS_KNOWN leaves beside the reach of features.calendar."""


def _cron(text: str) -> str:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(text, datetime(2025, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f"no cron expression ({error}), e.g. */15 * * * *") from None
    return text


Cron = Annotated[str, AfterValidator(_cron)]


class Schedule(Settings):
    """When `oihedge serve` runs each flow (cron, UTC)."""

    ingest: Cron
    validation: Cron
    retrain: Cron
    hedge: Cron
    maintenance: Cron


class Run(Settings):
    """This run: its name, its instant, its places."""

    name: str
    as_of: Instant | None
    history_days: Days
    """How much past the demo and a first serve bring in."""
    targets: Path
    reports: Path
    data: Path
    """Archives, leases and other working files."""
    label: str
    """Printed over every table and figure; null: what the market is, e.g. `simulated market`."""
    price_label: str
    """What stands for spot: `spot`, or `spot proxy (...)` where a perp does."""

    @property
    def title(self) -> str:
        """Return what stands over every figure: the market, and the spot proxy where there is one."""
        return self.label if self.price_label == "spot" else f"{self.label}, {self.price_label}"


class Config(Settings):
    """Everything, frozen. `home` is the folder that relative paths start from and is no setting."""

    home: Path
    run: Run
    market: Market
    simulator: Simulator
    lake: Lake
    quality: Quality
    features: Features
    forecast: Forecast
    evaluation: Evaluation
    hedge: Hedge
    registry: Registry
    search: Search
    schedule: Schedule

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.features.event_times and not self.features.events:
            raise ValueError("features.event_times is filled from features.events; name calendars there")
        horizon = self.forecast.horizon_h
        if self.features.events and horizon > MOST_EVENT_HORIZON_H:
            raise ValueError(f"forecast.horizon_h {horizon} is above {MOST_EVENT_HORIZON_H}, the most with events")
        if self.evaluation.purge_h < self.forecast.horizon_h:
            raise ValueError(
                f"evaluation.purge_h {self.evaluation.purge_h} is below forecast.horizon_h {self.forecast.horizon_h}"
            )
        self._require_targets()
        told = self.features
        if self.market.source != "import":
            self._require_venues()
        untraded = sorted(set(told.assets) - {asset for venue in self.market.venues for asset in venue.symbols})
        if self.market.source != "import" and untraded:
            raise ValueError(f"features.assets has {untraded[0]!r}, which no venue of market.venues has a symbol for")
        unknown = sorted(set(self.hedge.portfolio.quantities) - set(self.features.assets))
        if unknown:
            raise ValueError(f"hedge.portfolio.holdings has {unknown[0]!r}, which features.assets lacks")
        fixed = [name for name in self.search.names if name not in Forecast.model_fields or name in _JUDGED_BY]
        if fixed:
            raise ValueError(f"search has {fixed[0]!r}, no setting of forecast or one that trials are judged by")
        return self

    def _require_targets(self) -> None:
        """Refuse a target that the features do not have, or of which no step lies wholly ahead."""
        further = self.forecast.targets[len(PATH_TARGETS) :]
        if "hedge_ratio" in further and self.features.perp_is_spot:
            raise ValueError(
                "forecast.targets has 'hedge_ratio', which needs a perp beside its spot: "
                f"features.price_kind makes {self.features.perp_venue!r} both"
            )
        window, horizon = self.features.realised_h, self.forecast.horizon_h
        if further and window > horizon:
            raise ValueError(
                f"features.realised_h {window} is above forecast.horizon_h {horizon}: "
                f"no step of {further[0]} would lie wholly ahead"
            )

    def _require_venues(self) -> None:
        """Where the venues are fetched from, name the setting that names one which is not."""
        told = self.features
        wanted = [
            ("evaluation.hedge_venue", "perp", [self.evaluation.hedge_venue]),
            ("features.perp_venue", "perp", [told.perp_venue]),
            ("features.spot_venue", told.price_kind, [told.spot_venue]),
            ("features.oi_venues", "perp", told.oi_venues),
            ("features.funding_venues", "perp", told.funding_venues),
        ]
        for name, kind, venues in wanted:
            tracked = {venue.id for venue in self.market.venues if venue.kind == kind}
            missing = [venue for venue in venues if venue not in tracked]
            if missing:
                raise ValueError(f"{name} {missing[0]!r} is not among the {kind} venues {sorted(tracked)}")

    @property
    def simulated(self) -> bool:
        """Whether the market behind this run is the embedded one."""
        return self.market.source == "embedded"

    @property
    def hash(self) -> str:
        """Digest of every setting but `home`."""
        return digest(self.model_dump(mode="json", exclude={"home"}))

    @property
    def calendars(self) -> Path:
        """The folder of event calendars of this home, or of those that come with the package where it has none."""
        own = self.path(self.market.inputs.events)
        return own if own.exists() else ROOT / self.market.inputs.events

    def path(self, relative: Path | str) -> Path:
        """Resolve a settings path against `home`."""
        return self.home / relative


def load(
    overrides: Sequence[str] = (), *, experiment: str | None = None, home: Path = ROOT, conf: Path = CONF
) -> Config:
    """Compose conf/ with an experiment and overrides.

    Args:
        overrides: Hydra overrides, e.g. `hedge.limits.max_ratio=1.2` or `forecast=persistence`; they win.
        experiment: name of a file in conf/experiment/, or a path to a user's own .yaml file.
        home: folder that relative paths start from.
        conf: configuration root.

    Raises:
        ConfigError: naming the unknown setting, group or file, or the value that does not fit.
    """
    raw = _compose(list(overrides), experiment, conf)
    raw["home"] = str(home.resolve())
    run, market = raw.get("run"), raw.get("market")
    if isinstance(run, dict) and isinstance(market, dict) and run.get("label", "") is None:
        # What is not labelled follows the market, so that neither simulated nor real rows pass for the other.
        run["label"] = LABELS.get(str(market.get("source")), str(market.get("source")))
    try:
        config = Config.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    return _with_event_times(config) if config.features.events else config


def _with_event_times(config: Config) -> Config:
    """Return `config` with the instants of the events that its features name.

    An event counts only if its date was published EVENTS_KNOWN before it: a forecast made before that did not know it.
    """
    from oihedge.market.inputs.events import named_events

    told = named_events(config.calendars, config.features.events)
    known = told.filter(told["available_at"] <= told["ts"] - EVENTS_KNOWN)
    times = {
        name: tuple(known.filter(known["name"] == name)["ts"].unique().sort().to_list())
        for name in config.features.events
    }
    return config.model_copy(update={"features": config.features.model_copy(update={"event_times": times})})


def _compose(overrides: list[str], experiment: str | None, conf: Path) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    with _experiment_overrides(experiment, conf) as chosen:
        try:
            with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
                composed = compose("config", overrides=[*chosen, *overrides])
            plain = OmegaConf.to_container(composed, resolve=False)
        except (HydraException, OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
            where = (
                f"experiment {experiment}: " if "of_user" in str(error) or isinstance(error, UnicodeDecodeError) else ""
            )
            raise ConfigError(where + _one_line(error), do="see conf/ for the settings there are") from None
    if "${" in json.dumps(plain):
        # oc.env would carry a secret of the environment into stored settings, reports and MLflow.
        raise ConfigError("settings hold an interpolation ${...}", expected="plain values")
    return dict(plain)  # type: ignore[arg-type]


@contextmanager
def _experiment_overrides(experiment: str | None, conf: Path) -> Iterator[list[str]]:
    """Yield the Hydra overrides that select the experiment; a user's file is lent to Hydra as a group of its own."""
    if experiment is None:
        yield []
    elif "/" not in experiment and not experiment.endswith((".yaml", ".yml")):
        if not (conf / "experiment" / f"{experiment}.yaml").is_file():
            names = ", ".join(sorted(path.stem for path in (conf / "experiment").glob("*.yaml")))
            raise ConfigError(
                f"unknown experiment {experiment!r}", expected=f"one of {names}, or a path to a .yaml file"
            )
        yield [f"+experiment={experiment}"]
    else:
        source = Path(experiment)
        if not source.is_file():
            raise ConfigError(f"experiment file {experiment} is not there", do="check the path")
        with tempfile.TemporaryDirectory() as lent:
            (Path(lent) / "experiment").mkdir()
            shutil.copy(source, Path(lent) / "experiment" / "of_user.yaml")
            yield [f"hydra.searchpath=[file://{lent}]", "+experiment@_global_=of_user"]


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Extra keys are refused, so Hydra's advice to append one would only lead to the next error.
    kept = [
        _LENT.sub("", line)
        for line in lines
        if not line.startswith(("To append", "full_key", "object_type", "Config search", "provider="))
    ]
    return " ".join(kept)[:300] if kept else type(error).__name__


def _first_problem(error: ValidationError) -> str:
    first, count = error.errors()[0], error.error_count()
    where = ".".join(str(part) for part in first["loc"]) or "settings"
    message = first["msg"].removeprefix("Value error, ")
    # The value of a setting that does not exist says nothing, and may be a secret in the wrong place.
    told = not isinstance(first["input"], dict) and first["type"] != "extra_forbidden"
    value = f", got {first['input']!r}" if told else ""
    return f"{where}: {message}{value}" + (f" (and {count - 1} more)" if count > 1 else "")


def effective_as_of(config: Config, given: datetime | None, now: datetime) -> datetime:
    """Return the instant a job works at: the one given, else the run's, else `now`.

    Raises:
        ConfigError: if it lies in the future: nothing is known there, and a decision of then would keep every earlier
            one from being published.
    """
    instant = given or config.run.as_of or now
    if instant > now:
        raise ConfigError(f"as_of {iso(instant)} lies in the future", expected=f"at most {iso(now)}")
    return instant
