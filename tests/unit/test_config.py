from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from oihedge.config import CONF, Config, effective_as_of, load
from oihedge.core.errors import ConfigError
from oihedge.market.settings import Market

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_every_shipped_experiment_loads(experiment: str | None) -> None:
    assert isinstance(load(experiment=experiment), Config)


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("forecast.hiden_size=8", "hiden_size"),
        ("forcast=tft", "forcast"),
        ("forecast=transformer", "transformer"),
        ("forecast.hidden_size=many", "hidden_size"),
        ("forecast.hidden_size=0", "hidden_size"),
        ("hedge.limits.min_ratio=0.9", "baseline"),
        ("hedge.limits.max_ratio=nan", "max_ratio"),
        ("evaluation.purge_h=3", "purge_h"),
        ("forecast.targets=[log_oi,log_return]", "forecast.targets: must begin with log_return, log_oi"),
        ("forecast.targets=[log_return]", "forecast.targets: must begin with log_return, log_oi"),
        ("forecast.targets=[log_return,log_oi,carry]", "'carry'"),
        ("forecast.targets=[log_return,log_oi,log_oi]", "log_oi twice"),
        ("forecast.seed=-1", "forecast.seed"),
        ("forecast.seed=18446744073709551616", "forecast.seed"),
        ("forecast.max_train_s=1e300", "forecast.max_train_s"),
        ("forecast.max_train_s=inf", "forecast.max_train_s"),
        ("forecast.threads=1000000", "forecast.threads"),
        ("forecast.scenario_paths=1000000000", "forecast.scenario_paths"),
        ("forecast.drop=1", "forecast.drop"),
        ("forecast.encoder_h=0", "forecast.encoder_h"),
        ("forecast.train_days=1000000", "forecast.train_days"),
        ("forecast.batch_size=1000000000", "forecast.batch_size"),
        ("forecast.segment_windows=1000000000", "forecast.segment_windows"),
        ("forecast.hidden_size=100000", "forecast.hidden_size"),
        ("forecast.hidden_continuous_size=100000", "forecast.hidden_continuous_size"),
        ("forecast.attention_heads=100000", "forecast.attention_heads"),
        ("forecast.attention_heads=17", "forecast.attention_heads: must be at most hidden_size, 16"),
        ("forecast.dropout=1.0", "forecast.dropout"),
        ("forecast.calibration_stride_h=8000", "forecast.calibration_stride_h: must be at most 1032"),
        ("run.history_days=1000000", "run.history_days"),
        ("features.z_window_h=1000000000", "features.z_window_h"),
        ("features.events=[funding]", "features: events names funding"),
        ("evaluation.hedge_venue=nowhere", "evaluation.hedge_venue 'nowhere'"),
        ("features.perp_venue=byb", "features.perp_venue 'byb' is not among the perp venues"),
        ("features.spot_venue=binanceusdm", "features.spot_venue 'binanceusdm' is not among the spot venues"),
        ("features.oi_venues=[bybit,okx]", "features.oi_venues 'okx'"),
        ("features.funding_venues=[okx]", "features.funding_venues 'okx'"),
        ("run.as_of=2025-01-01T00:00:00", "as_of"),
        ("schedule.hedge=bogus", "schedule.hedge"),
        ("features.assets=[BTC,ETH,NEAR,DOGE]", "features.assets has 'DOGE'"),
        ("hedge.valid_for=-PT1H", "valid_for"),
        ("hedge.max_data_age=PT0S", "max_data_age"),
        ("registry.tracking_uri=file:///tmp/x", "tracking_uri"),
        ("features.assets=[BTC]", "ETH"),
        ("hedge.limits.max_ratio", "max_ratio"),
    ],
)
def test_a_setting_that_is_wrong_is_one_line_that_names_it(override: str, names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([override])
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


FOUR = "forecast.targets=[log_return,log_oi,realised_downside,hedge_ratio]"


def test_a_realised_target_needs_a_horizon_over_which_it_lies_ahead() -> None:
    assert load([FOUR]).forecast.targets[2:] == ("realised_downside", "hedge_ratio")
    with pytest.raises(ConfigError, match=r"features\.realised_h 25 is above forecast\.horizon_h 24"):
        load([FOUR, "features.realised_h=25"])
    assert load(["features.realised_h=25"]).features.realised_h == 25


def test_a_perp_that_stands_for_spot_has_no_hedge_ratio_to_forecast() -> None:
    proxy = ["features.price_kind=perp", "features.spot_venue=binanceusdm"]
    with pytest.raises(ConfigError, match=r"forecast\.targets has 'hedge_ratio', which needs a perp beside its spot"):
        load([FOUR, *proxy])
    assert load(["forecast.targets=[log_return,log_oi,realised_downside]", *proxy]).features.perp_is_spot


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="min_ratio"):
        load(["hedge.limits.min_ratio=0.8", "hedge.limits.max_ratio=0.5", "hedge.baseline=0.6"])


def test_an_unknown_experiment_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown experiment 'dmo'.*demo"):
        load(experiment="dmo")


def test_a_users_own_experiment_file_works_from_anywhere(tmp_path: Path) -> None:
    mine = tmp_path / "my first try.yaml"
    mine.write_text("defaults:\n  - override /forecast: persistence\nrun:\n  name: mine\nhedge:\n  baseline: 0.2\n")
    config = load(["hedge.baseline=0.25"], experiment=str(mine))
    assert (config.run.name, config.forecast.model, config.hedge.baseline) == ("mine", "persistence", 0.25)


@pytest.mark.parametrize("text", ["run: [", "runn:\n  name: x\n", "run:\n  nam: x\n"])
def test_a_broken_experiment_file_is_one_line(tmp_path: Path, text: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(experiment=str(mine))
    assert "\n" not in str(caught.value)


def test_an_experiment_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml is not there"):
        load(experiment=str(tmp_path / "absent.yaml"))


def test_the_hash_is_that_of_the_settings_and_not_of_the_place(tmp_path: Path) -> None:
    assert load(home=tmp_path).hash == load().hash
    assert load(["hedge.baseline=0.31"]).hash != load().hash


def test_an_experiments_holdings_replace_the_default_ones(tmp_path: Path) -> None:
    mine = tmp_path / "one.yaml"
    mine.write_text("hedge:\n  portfolio:\n    holdings:\n      - {asset: BTC, qty: 2.0}\n")
    assert load(experiment=str(mine)).hedge.portfolio.quantities == {"BTC": 2.0}


def test_the_instant_is_the_one_given_else_the_runs_else_now_and_never_in_the_future() -> None:
    plain, fixed = load(), load(experiment="demo")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    given = now - timedelta(days=3)
    assert effective_as_of(fixed, given, now) == given
    assert effective_as_of(fixed, None, now) == fixed.run.as_of
    assert effective_as_of(plain, None, now) == now
    with pytest.raises(ConfigError, match="as_of 2026-01-04T00:00:00Z lies in the future"):
        effective_as_of(plain, now + timedelta(days=3), now)


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ([], "simulated market"),
        (["market=all_venues"], "real market data"),
        (["market=all_venues", "market.source=embedded"], "simulated market"),
        (["market=ccxt"], "real market data"),
        (["market=imported"], "imported market data"),
        (["market=imported", "run.label=mine"], "mine"),
    ],
)
def test_a_label_that_is_not_set_says_which_market_it_is(overrides: list[str], label: str) -> None:
    config = load(overrides)
    assert config.run.label == label
    assert Config.model_validate_json(config.model_dump_json()).run.label == label


@pytest.mark.parametrize("source", sorted(path.stem for path in (CONF / "market").glob("*.yaml")))
def test_every_market_setting_is_written_down_so_that_it_can_be_overridden(source: str) -> None:
    written = yaml.safe_load((CONF / "market" / f"{source}.yaml").read_text())
    assert set(Market.model_fields) - {"inputs", "vision"} <= set(written)
    assert load([f"market={source}", "market.chunk_rows=7"]).market.chunk_rows == 7
