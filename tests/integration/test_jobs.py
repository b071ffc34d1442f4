"""The jobs on a small embedded market: real lake, real expectations, real loopback venues, real MLflow on sqlite."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from fakes.small_market import AS_OF, SMALL, small_home

from oihedge.config import Config, load
from oihedge.core.errors import ConfigError, DataError
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
    status,
    validate,
)
from oihedge.jobs.featuring import features, keep
from oihedge.jobs.opening import open_lake, open_registry
from oihedge.lake.storage import Layer

Settings = Callable[..., Config]
LAYERS: tuple[Layer, ...] = ("raw", "validated")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def settings(home: Path) -> Settings:
    return lambda *more: load([*SMALL, *more], home=home)


def versions(config: Config) -> dict[str, int | None]:
    lake = open_lake(config)
    return {f"{layer}/{spec.name}": lake.version(layer, spec.name) for layer in LAYERS for spec in MARKET_TABLES}


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
