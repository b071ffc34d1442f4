"""A champion on a small embedded market: promoted, asked, compared with, damaged, rolled back."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from fakes.small_market import AS_OF, SMALL, small_home

from oihedge.config import Config, load
from oihedge.core.errors import ModelError
from oihedge.core.tables import UTC_TIME
from oihedge.jobs import evaluate, hedge, promote, replay, retrain, rollback
from oihedge.jobs.comparison import against_champion
from oihedge.jobs.opening import open_lake, open_registry
from oihedge.registry.client import ActiveRun

BEFORE = AS_OF - timedelta(days=5)
"""A champion of then leaves hours that it has not seen."""
Settings = Callable[..., Config]
Promoted = Callable[..., tuple[tuple[str, ...], promote.PromoteReport]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def settings(home: Path) -> Settings:
    return lambda *more: load([*SMALL, *more], home=home)


def held(config: Config, made: retrain.RetrainReport, *, champion: str, but: str = "") -> None:
    """Let the run say that every gate held: persistence cannot pass, and what is tested is what follows when one does.

    The verdict of the gate `but` stays as it is.
    """
    gates = [gate if gate["name"] == but else {**gate, "value": 1.0, "passed": True} for gate in made.gates]
    verdict = {"passed": all(gate["passed"] for gate in gates), "champion": champion, "gates": gates}
    ActiveRun(open_registry(config)._client, made.run_id).json("gates.json", verdict)


@pytest.fixture(scope="module")
def in_service(home: Path) -> Promoted:
    """Return what names a registry whose champion was trained with further settings, made once, and its promotion."""

    @functools.cache
    def made(*further: str) -> tuple[tuple[str, ...], promote.PromoteReport]:
        name = f"live{len(further)}"
        named = (f"registry.experiment={name}", f"registry.model_name={name}")
        config = load([*SMALL, *named, *further], home=home)
        held(config, retrain.run(config, as_of=BEFORE), champion="")
        told = promote.run(config, as_of=BEFORE)
        assert promote.run(config, as_of=BEFORE).promoted
        return named, told

    return made


def test_a_model_whose_gates_all_held_goes_live_decides_expires_and_is_rolled_back(
    settings: Settings, in_service: Promoted
) -> None:
    named, told = in_service()
    config = settings(*named)
    assert (told.promoted, told.champion, told.reason) == (True, "1", "every gate held")
    assert [row["verdict"] for row in open_registry(config).ledger()].count("promoted") == 1
    decided = hedge.run(config, as_of=AS_OF).decision
    assert decided["model"]["version"] == "1"
    assert decided["hedges"][0]["p_unwind"] is not None
    assert "no_champion" not in decided["reasons"]
    kept = open_lake(config).rows("derived", "forecasts").collect().sort("asset")
    assert kept["model"].unique().to_list() == ["live0/1"]
    assert kept["p_unwind"].round(6).to_list() == [one["p_unwind"] for one in decided["hedges"]]
    assert replay.run(config, decided["decision_id"]).same
    late = settings(*named, "hedge.max_data_age=P20D")
    assert "model_expired" in hedge.run(late, as_of=AS_OF + timedelta(days=8)).decision["reasons"]
    with pytest.raises(ModelError):
        rollback.run(config, as_of=AS_OF, reason="no champion was there before")


@pytest.mark.long
def test_a_version_that_was_rolled_back_does_not_come_back_by_itself(settings: Settings) -> None:
    names = ("registry.experiment=pair", "registry.model_name=pair")
    first, second = settings(*names), settings(*names, "evaluation.costs.slippage=0.0004")
    held(first, retrain.run(first, as_of=AS_OF), champion="")
    assert promote.run(first, as_of=AS_OF).promoted
    held(second, retrain.run(second, as_of=AS_OF), champion="")
    assert "another champion" in promote.run(second, as_of=AS_OF).reason
    held(second, retrain.run(second, as_of=AS_OF), champion="1")
    assert promote.run(second, as_of=AS_OF).champion == "2"
    assert rollback.run(second, as_of=AS_OF, reason="worse than it looked").champion == "1"
    again = promote.run(second, as_of=AS_OF)
    assert (again.promoted, again.champion, again.reason) == (False, "1", "was rolled back: retrain")


TWO_ASSETS = ("features.assets=[BTC,ETH]", "hedge.portfolio.holdings=[{asset:BTC,qty:12.5},{asset:ETH,qty:150.0}]")
MISFITS = {
    "quantiles": ((), "forecast.quantiles=[0.02,0.1,0.4,0.5,0.9,0.98]", "lack column 'log_return_q40'"),
    "horizon": ((), "forecast.horizon_h=12", "expected open interest down by 0.1 within 12 h"),
    "drop": ((), "forecast.drop=0.05", "expected open interest down by 0.05 within 24 h"),
    "inputs": ((), "features.funding_venues=[]", "feature rows lack column 'hours_to_funding'"),
    "assets": (TWO_ASSETS, "forecast.seed=8", "asset 'NEAR' was not in the training rows"),
}


@pytest.mark.parametrize(
    ("then", "now", "why"),
    [pytest.param(*case, id=name, marks=[pytest.mark.long] * (name != "quantiles")) for name, case in MISFITS.items()],
)
def test_a_champion_that_does_not_fit_the_settings_stays_and_the_gate_says_why(
    settings: Settings, in_service: Promoted, then: tuple[str, ...], now: str, why: str
) -> None:
    named, _ = in_service(*then)
    stays(settings(*named, now), why)


def stays(config: Config, why: str) -> None:
    """Retrain beside a champion that cannot be compared with: the gate refuses and says why, the champion stays."""
    registry = open_registry(config)
    champion = registry.champion()
    made = retrain.run(config, as_of=AS_OF)
    (gate,) = [gate for gate in made.gates if gate["name"] == "beats_champion"]
    assert (gate["value"], gate["passed"]) == (None, False)
    assert "champion version 1 does not fit these settings" in gate["detail"]
    assert why in gate["detail"]
    held(config, made, champion="1", but="beats_champion")
    told = promote.run(config, as_of=AS_OF)
    assert (told.promoted, told.champion, told.reason) == (False, "1", "refused by beats_champion")
    assert registry.champion() == champion
    assert registry.ledger()[-1]["verdict"] == "refused"


def test_a_champion_that_looks_back_on_late_rows_alone_is_not_compared_with(
    settings: Settings, in_service: Promoted
) -> None:
    """All that it could say of hours it has not seen reads a row that came a month late; the challenger's does not."""
    named, _ = in_service("forecast.encoder_h=96")
    config = settings(*named, "forecast.encoder_h=12")
    registry, assessment = open_registry(config), evaluate.assess(config, as_of=AS_OF)
    whole = against_champion(config, registry, assessment)
    assert whole is not None
    assert whole.hours > 48
    late = pl.col("ts") == assessment.evaluated.forecasts.filter(pl.col("ts") > BEFORE)["ts"].min()
    came = pl.when(late).then(pl.lit(BEFORE + timedelta(days=30), UTC_TIME)).otherwise("available_at")
    rows = replace(assessment.feature_set, past=assessment.feature_set.past.with_columns(available_at=came))
    spoiled = against_champion(config, registry, replace(assessment, feature_set=rows))
    assert spoiled is not None
    assert (spoiled.hours, spoiled.misfit, math.isnan(spoiled.skill)) == (0, "", True)


def test_a_champion_alias_moved_by_hand_is_no_champion(settings: Settings) -> None:
    registry = open_registry(settings())
    challenger = registry.challenger()
    assert challenger is not None
    registry.set_alias("champion", challenger)
    assert registry.champion() is None


def test_model_files_that_were_changed_hold_the_hedge(settings: Settings, in_service: Promoted) -> None:
    named, _ = in_service()
    config = settings(*named, "hedge.baseline=0.25")  # a decision of its own: one that is stored is not made again
    registry = open_registry(config)
    champion = registry.champion()
    assert champion is not None
    manifest = registry.model_folder(champion) / "manifest.json"
    whole = manifest.read_text()
    try:
        manifest.write_text(whole + " ")
        with pytest.raises(ModelError, match=r"manifest\.json of version 1 is not the one that was registered"):
            registry.model_folder(champion)
        made = hedge.run(config, as_of=AS_OF).decision
        assert made["status"] == "hold"
        assert any(reason.startswith("forecast_nan") for reason in made["reasons"])
    finally:
        manifest.write_text(whole)


def held_for_want_of_a_forecast(config: Config, caplog: pytest.LogCaptureFixture) -> str:
    """Hedge with a champion that cannot be asked, and return what the log says of it."""
    caplog.clear()
    made = hedge.run(config, as_of=AS_OF).decision
    assert made["status"] == "hold"
    assert any(reason.startswith("forecast_nan") for reason in made["reasons"])
    (told,) = [record.getMessage() for record in caplog.records if record.name == hedge.__name__]
    assert told.startswith("the champion cannot forecast: ")
    return told


@pytest.mark.parametrize("length", [0, 60])
def test_a_champion_whose_description_was_cut_holds_the_hedge_and_fails_no_retrain(
    settings: Settings, in_service: Promoted, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    named, _ = in_service()
    config = settings(*named, f"forecast.seed={100 + length}")
    registry = open_registry(config)
    champion = registry.champion()
    assert champion is not None
    described = registry.model_folder(champion).parents[1] / "MLmodel"
    whole = described.read_bytes()
    try:
        described.write_bytes(whole[:length])
        assert "MLmodel of version 1 cannot be read" in held_for_want_of_a_forecast(config, caplog)
        if not length:
            stays(config, "MLmodel of version 1 cannot be read")
    finally:
        described.write_bytes(whole)


def test_a_champion_of_another_event_decides_nothing(
    settings: Settings, in_service: Promoted, caplog: pytest.LogCaptureFixture
) -> None:
    named, _ = in_service()
    for now, event in (("forecast.drop=0.05", "0.05 within 24 h"), ("forecast.horizon_h=12", "0.1 within 12 h")):
        told = held_for_want_of_a_forecast(settings(*named, now), caplog)
        assert f"another event; expected open interest down by {event}" in told
        assert "got open interest down by 0.1 within 24 h; retrain" in told


def test_a_champion_is_asked_with_as_much_history_as_it_takes(settings: Settings, in_service: Promoted) -> None:
    named, _ = in_service("forecast.encoder_h=96")
    config = settings(*named)
    assert config.forecast.encoder_h < 96
    for at in (AS_OF - timedelta(hours=1), AS_OF):
        decided = hedge.run(config, as_of=at).decision
        assert decided["model"]["version"] == "1"
        assert decided["hedges"][0]["p_unwind"] is not None
        assert not [reason for reason in decided["reasons"] if reason.startswith("forecast_nan")]


def test_a_verdict_changed_by_hand_promotes_nothing(settings: Settings) -> None:
    config = settings()
    registry = open_registry(config)
    challenger, ledger = registry.challenger(), registry.ledger()
    assert challenger is not None
    (file,) = (config.home / "mlruns").rglob(f"{challenger.run_id}/**/gates.json")
    whole = file.read_text()
    told = json.loads(whole)
    better = {**told, "passed": True, "gates": [{**gate, "value": 1.0, "passed": True} for gate in told["gates"]]}
    try:
        for content in (json.dumps(better), whole[: len(whole) // 2], ""):
            file.write_text(content)
            with pytest.raises(ModelError, match=r"^gates\.json of run \w+ is not what the run wrote.*retrain$"):
                promote.run(config, as_of=AS_OF)
        file.write_text(json.dumps(better))
        tag = "sha256.gates.json"  # what was registered before there was a digest
        digest = registry._client.get_run(challenger.run_id).data.tags[tag]
        registry._client.delete_tag(challenger.run_id, tag)
        try:
            with pytest.raises(ModelError, match=r"keeps no digest of its gates\.json;.*retrain$"):
                promote.run(config, as_of=AS_OF)
        finally:
            registry._client.set_tag(challenger.run_id, tag, digest)
        assert (registry.champion(), registry.ledger()) == (None, ledger)
    finally:
        file.write_text(whole)
