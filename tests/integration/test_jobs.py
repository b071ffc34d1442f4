"""The jobs on a small embedded market: real lake, real expectations, real loopback venues, real MLflow on sqlite."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from oihedge.config import Config, load
from oihedge.core.errors import ConfigError, DataError, ModelError
from oihedge.core.tables import MARKET_TABLES
from oihedge.hedge import decision as documents
from oihedge.jobs import (
    bootstrap,
    evaluate,
    hedge,
    importing,
    ingest,
    promote,
    replay,
    report,
    retrain,
    rollback,
    status,
    validate,
)
from oihedge.jobs.featuring import features, keep
from oihedge.jobs.opening import open_lake, open_registry
from oihedge.lake.storage import Layer
from oihedge.registry.client import ActiveRun

AS_OF = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
BEFORE = AS_OF - timedelta(days=5)
"""A champion of then leaves hours that it has not seen."""
SMALL = [
    "forecast=persistence", "run.history_days=50", "run.as_of='2025-07-01T00:05:00Z'", "forecast.train_days=14",
    "forecast.calibration_days=4", "evaluation.test_days=4", "features.rank_window_h=168",
    "forecast.min_train_rows=200",
]  # fmt: skip
Settings = Callable[..., Config]
Promoted = Callable[..., tuple[tuple[str, ...], promote.PromoteReport]]
LAYERS: tuple[Layer, ...] = ("raw", "validated")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which everything up to the retrain has run once."""
    folder = tmp_path_factory.mktemp("home")
    config = load(SMALL, home=folder)
    bootstrap.run(config, as_of=AS_OF)
    ingest.run(config, as_of=AS_OF)
    validate.run(config, as_of=AS_OF)
    retrain.run(config, as_of=AS_OF)
    return folder


@pytest.fixture
def settings(home: Path) -> Settings:
    return lambda *more: load([*SMALL, *more], home=home)


def versions(config: Config) -> dict[str, int | None]:
    lake = open_lake(config)
    return {f"{layer}/{spec.name}": lake.version(layer, spec.name) for layer in LAYERS for spec in MARKET_TABLES}


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


def with_positions(config: Config, path: Path) -> Config:
    portfolio = config.hedge.portfolio.model_copy(update={"positions_file": path})
    return config.model_copy(update={"hedge": config.hedge.model_copy(update={"portfolio": portfolio})})


def test_the_past_is_brought_in_once_and_a_second_start_needs_nothing(settings: Settings) -> None:
    config = settings()
    assert not bootstrap.needed(config, AS_OF)
    before = versions(config)
    bootstrap.run(config, as_of=AS_OF)
    ingest.run(config, as_of=AS_OF)
    assert validate.run(config, as_of=AS_OF).rows == ()
    assert versions(config) == before


def test_a_start_killed_before_its_last_table_is_started_again(tmp_path: Path) -> None:
    assert bootstrap.needed(load(SMALL, home=tmp_path), AS_OF)


def test_features_of_the_lake_are_those_that_training_saw_at_that_version(settings: Settings) -> None:
    config = settings()
    made = features(config, as_of=AS_OF, start=AS_OF - timedelta(days=10))
    version = keep(config, made, AS_OF)
    kept = open_lake(config).read("derived", "features", version=version, start=made.past["ts"].min(), end=AS_OF)
    common = ["asset", "ts", "log_return", "log_oi", "oi_divergence", "volatility"]
    mine = kept.filter(pl.col("spec") == made.spec).select(common).sort("asset", "ts").collect()
    assert mine.equals(made.past.select(common))


def test_a_retrain_of_the_same_key_reuses_its_finished_run(settings: Settings) -> None:
    again = retrain.run(settings(), as_of=AS_OF)
    assert again.reused
    assert again.version == "1"


def test_a_challenger_that_does_not_beat_persistence_is_refused_and_the_rule_decides(settings: Settings) -> None:
    config = settings()
    verdict = promote.run(config, as_of=AS_OF)
    assert not verdict.promoted
    assert "beats_persistence" in verdict.reason
    assert open_registry(config).champion() is None
    made = hedge.run(config, as_of=AS_OF).decision
    assert "no_champion" in made["reasons"]
    assert made["model"]["version"] == ""
    assert made["simulated"] is True
    assert any("no champion" in line for line in status.run(config, as_of=AS_OF).blocked_by)


def test_the_same_inputs_give_the_same_bytes_and_one_row(settings: Settings) -> None:
    config = settings()
    first = hedge.run(config, as_of=AS_OF)
    payload, version = first.path.read_bytes(), open_lake(config).version("derived", "decisions")
    second = hedge.run(config, as_of=AS_OF)
    assert not second.new
    assert second.path.read_bytes() == payload
    assert open_lake(config).version("derived", "decisions") == version
    documents.validate(json.loads(payload))


def test_a_decision_is_replayed_byte_for_byte_after_more_data_came_in(settings: Settings) -> None:
    config = settings()
    made = hedge.run(config, as_of=AS_OF).decision
    later = AS_OF + timedelta(hours=1)
    ingest.run(config, as_of=later)
    validate.run(config, as_of=later)
    assert replay.run(settings("hedge.baseline=0.5"), made["decision_id"]).same


def test_replaying_a_decision_that_is_not_there_names_it(settings: Settings) -> None:
    with pytest.raises(DataError, match="no decision 'nope'"):
        replay.run(settings(), "nope")


def test_replaying_a_decision_whose_settings_are_not_allowed_any_more_names_the_setting(settings: Settings) -> None:
    config = settings()
    decided = hedge.run(config, as_of=AS_OF).decision
    lake, mine = open_lake(config), pl.col("decision_id") == decided["decision_id"]
    row = lake.read("derived", "decision_inputs", where=mine).collect()
    told = json.loads(row["inputs"].item())
    told["config"]["forecast"]["dropout"] = 1.0
    other = row.with_columns(decision_id=pl.lit("older"), inputs=pl.lit(json.dumps(told)))
    lake.append("derived", "decision_inputs", other.select("decision_id", "as_of", "inputs", "available_at"), now=AS_OF)
    made = lake.read("derived", "decisions", where=mine).collect().with_columns(decision_id=pl.lit("older"))
    lake.append("derived", "decisions", made.drop("ingested_at", strict=False), now=AS_OF)
    with pytest.raises(DataError, match=r"settings that are not allowed any more; got forecast\.dropout"):
        replay.run(config, "older")


def test_an_earlier_decision_never_replaces_a_later_one(settings: Settings) -> None:
    config = settings()
    newest = hedge.run(config, as_of=AS_OF).path.read_bytes()
    past = hedge.run(config, as_of=AS_OF - timedelta(hours=5))
    assert past.decision["as_of"] < json.loads(newest)["as_of"]
    assert past.path.read_bytes() == newest
    assert past.kept == json.loads(newest)["as_of"]


def test_another_portfolios_later_decision_keeps_none_from_being_published(settings: Settings) -> None:
    report = hedge.run(settings(), as_of=AS_OF)
    for other in ({"portfolio": "another"}, {"simulated": False}, {"as_of": "?"}):
        report.path.write_text(json.dumps({**report.decision, "as_of": "2031-01-01T00:00:00Z", **other}))
        again = hedge.run(settings(), as_of=AS_OF)
        assert (again.kept, json.loads(again.path.read_bytes())) == (None, report.decision)


def test_positions_that_are_gone_are_unreadable_also_in_the_simulated_market(settings: Settings, home: Path) -> None:
    config = settings()
    file = config.path(config.hedge.portfolio.positions_file)
    assert file.is_relative_to(home)
    kept = file.read_bytes()
    try:
        file.unlink()
        bootstrap.run(config, as_of=AS_OF)
        made = hedge.run(config, as_of=AS_OF).decision
        assert (made["status"], made["targets"]) == ("hold", [])
        assert "positions_unreadable" in made["reasons"]
    finally:
        file.write_bytes(kept)


@pytest.mark.parametrize("content", [None, "{", '{"positions": []}', '{"positions": [{"venue": "bybit"}]}'])
def test_unreadable_positions_hold_with_no_targets_and_are_never_flat(
    settings: Settings, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "positions.json"
    if content is not None:
        path.write_text(content)
    made = hedge.run(with_positions(settings(), path), as_of=AS_OF).decision
    assert (made["status"], made["targets"]) == ("hold", [])
    assert "positions_unreadable" in made["reasons"]


def test_stale_data_holds_what_is_there(settings: Settings) -> None:
    made = hedge.run(settings(), as_of=AS_OF + timedelta(hours=9)).decision
    assert made["status"] == "hold"
    assert any(reason.startswith("stale_data") for reason in made["reasons"])
    assert all(row["delta_qty"].strip("0.-") == "" for row in made["targets"])


def test_the_kill_switch_halts(settings: Settings) -> None:
    made = hedge.run(settings("hedge.kill_switch=true"), as_of=AS_OF).decision
    assert made["status"] == "halt"
    assert all(row["delta_qty"].strip("0.-") == "" for row in made["targets"])


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


def test_the_report_is_one_file_that_names_the_simulated_market(settings: Settings) -> None:
    config = settings()
    path = report.run(config, as_of=AS_OF).path
    text = path.read_text()
    assert text.count("data:image/") >= 4
    assert "simulated market" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert report.run(config, as_of=AS_OF).path.read_text() == text


def test_evaluate_names_every_strategy_and_figure(settings: Settings) -> None:
    told = evaluate.run(settings(), as_of=AS_OF).as_dict()
    names = "no_hedge static_50 static_twin_expost static_twin_tradable signal_rule policy"
    figures = "volatility cvar_95 worst_day max_drawdown mean_ratio turnover cost funding sharpe"
    assert set(names.split()) <= set(told["strategies"])
    assert all(set(figures.split()) <= set(row) for row in told["strategies"].values())
    json.dumps(told, allow_nan=False)


def test_too_little_history_is_one_line_and_leaves_no_version(settings: Settings) -> None:
    config = settings("forecast.train_days=400", "registry.model_name=short", "registry.experiment=short")
    before = open_lake(config).version("derived", "features")
    with pytest.raises(DataError, match="too little history"):
        retrain.run(config, as_of=AS_OF)
    assert open_lake(config).version("derived", "features") == before
    assert open_registry(config).challenger() is None


def test_real_rows_do_not_go_into_the_simulated_lake(settings: Settings, tmp_path: Path) -> None:
    config = settings()
    before = versions(config)
    bars = tmp_path / "bars.csv"
    bars.write_text("time,o,h,l,c,v\n" + "".join(f"2025-01-01 {h:02}:00:00,1,2,1,2,5\n" for h in range(24)))
    spec = tmp_path / "bars.yaml"
    spec.write_text(SPEC)
    with pytest.raises(ConfigError, match="simulated"):
        importing.run(config, specs=[spec], folder=None, as_of=AS_OF)
    assert versions(config) == before


def test_an_own_file_goes_through_quarantine_into_a_lake_of_its_own(tmp_path: Path) -> None:
    config = load(["market=imported", "lake.root=lake", "evaluation.hedge_venue=bybit"], home=tmp_path)
    (tmp_path / "bars.csv").write_text(
        "time,o,h,l,c,v\n" + "".join(f"2025-01-01 {h:02}:00:00,1,{0.5 if h == 7 else 2},1,2,5\n" for h in range(24))
    )
    (tmp_path / "bars.yaml").write_text(SPEC)
    told = importing.run(config, specs=[tmp_path / "bars.yaml"], folder=None, as_of=AS_OF)
    assert [(row["good"], row["quarantined"]) for row in told.judged] == [(23, 1)]
    again = importing.run(config, specs=[tmp_path / "bars.yaml"], folder=None, as_of=AS_OF)
    assert [row["added"] for row in again.rows] == [0]
    assert asdict(again)["judged"] == ()


SPEC = """
table: ohlcv
file: bars.csv
venue: bybit
symbol: BTC/USDT:USDT
asset: BTC
kind: perp
timeframe: 1h
time_zone: UTC
stamp: open
columns: {ts: time, open: o, high: h, low: l, close: c, volume: v}
"""
