import dataclasses
import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from oihedge.core.types import Gate
from oihedge.evaluation import figures
from oihedge.evaluation.gates import gates
from oihedge.evaluation.report import ReportContent, html, render
from oihedge.evaluation.verdict import verdict
from oihedge.forecast.scenarios import JointPaths

LABEL = "simulated market"
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def verdicts(scene, evaluated):
    return gates(
        evaluated, scene.settings.gates, quality_share=1.0, leakage_failures=0, latency_s=float("nan"), champion=None
    )


def content(evaluated, verdicts, **changes) -> ReportContent:
    given = ReportContent(
        name="demo", as_of=datetime(2025, 7, 1, 0, 5, tzinfo=UTC), label=LABEL, price_label="spot proxy",
        oos_days=evaluated.oos_days, strategies=evaluated.rows(), gates=verdicts, scores=evaluated.scores,
        decision={"status": "ok", "as_of": "2025-07-01T00:05:00Z", "valid_until": "2025-07-01T01:05:00Z",
                  "reasons": ["no_champion"], "hedges": [{"asset": "BTC", "hedge_ratio": 0.62}],
                  "targets": [{"venue": "bybit", "symbol": "BTC/USDT:USDT", "target_qty": "-4.100"}]},
        data=[{"table": "ohlcv", "rows": 10}], figures={"Equity": PNG},
    )  # fmt: skip
    return dataclasses.replace(given, **changes)


def drawn(scene, evaluated, verdicts):
    rows = scene.inputs.features
    return {
        "equity": figures.strategies_equity(evaluated, LABEL),
        "ratio": figures.ratio_over_market(evaluated, rows, "BTC", LABEL),
        "fan": figures.quantile_fan(evaluated, rows, "NEAR", QUANTILES, LABEL),
        "return_given_oi": given_oi(),
        "gates": figures.gate_table(verdicts, LABEL),
        "reliability": figures.reliability(evaluated.scores, LABEL),
        "loss": figures.loss_curve([{"train_loss": 1.0, "val_loss": 1.1}, {"train_loss": 0.8}], LABEL),
        "importance": figures.variable_importance({"log_oi": 0.2, "basis": 0.8}, {"hour_sin": 1.0}, LABEL, "9 windows"),
        "attention": figures.attention_by_lag([0.5, 0.2, 0.3], LABEL, "9 windows"),
    }


def given_oi(came=None):
    noise, oi = 0.002 * np.random.default_rng(4).normal(size=(2, 200, 24))
    drawn = np.stack([0.5 * noise + oi, oi])
    told = JointPaths(("BTC",), (datetime(2025, 6, 1, tzinfo=UTC),), drawn[None])
    return figures.return_given_oi(drawn, drawn[:, 0] if came is None else came, told.return_given_oi, LABEL, "BTC")


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


def test_every_figure_names_its_label_and_is_the_same_picture_again(scene, evaluated, verdicts):
    for name, figure in drawn(scene, evaluated, verdicts).items():
        assert f"[{LABEL}]" in figure.get_suptitle(), name
    one, two = (png(figures.strategies_equity(evaluated, LABEL)) for _ in range(2))
    assert one == two


@pytest.mark.filterwarnings("error")
def test_figures_of_an_empty_or_unknown_evaluation_are_drawn_too(scene, evaluated):
    bare = {"model": {**evaluated.scores["model"], "reliability": [], "base_rate": float("nan")}}
    unknown = Gate("coverage", None, 0.05, "mean coverage error <= 0.05", False)
    for figure in (
        figures.gate_table([], LABEL),
        figures.gate_table([unknown], LABEL),
        figures.loss_curve([], LABEL),
        figures.reliability(bare, LABEL),
        figures.variable_importance({"log_oi": 1.0}, {}, LABEL, "1 window"),
        given_oi(came=np.full((2, 24), np.nan)),
    ):
        assert png(figure).startswith(PNG)


def test_the_fan_has_a_row_for_every_target_that_is_forecast(scene, evaluated):
    levels = {f"{100 * level:02.0f}": level for level in QUANTILES}
    ratio = [pl.lit(0.97 + 0.05 * (level - 0.5)).alias(f"hedge_ratio_q{name}") for name, level in levels.items()]
    downside = [pl.lit(0.004 + 0.003 * level).alias(f"realised_downside_q{name}") for name, level in levels.items()]
    four = dataclasses.replace(evaluated, forecasts=evaluated.forecasts.with_columns(*downside, *ratio))
    loss = pl.col("log_return").clip(upper_bound=0.0) ** 2
    rows = scene.inputs.features.with_columns(
        realised_downside=loss.rolling_mean(24, min_samples=1).sqrt().over("asset"),
        hedge_ratio=0.97 + pl.col("log_return"),
    )
    names = [
        [axes.get_ylabel() for axes in figures.quantile_fan(one, rows, "NEAR", QUANTILES, LABEL).axes]
        for one in (evaluated, four)
    ]
    assert [name for name in names[0] if name] == ["hourly return", "hourly OI change"]
    assert [name for name in names[1] if name][2:] == ["realised downside", "hedge ratio"]


@pytest.mark.parametrize("folds", [(0, 2), (1,), ()])
def test_the_fan_has_a_column_for_every_fold_in_which_the_asset_has_a_forecast(scene, evaluated, folds):
    there = (pl.col("asset") != "NEAR") | pl.col("fold").is_in(folds)
    gappy = dataclasses.replace(evaluated, forecasts=evaluated.forecasts.filter(there))
    figure = figures.quantile_fan(gappy, scene.inputs.features, "NEAR", QUANTILES, LABEL)
    shown = [axes.get_title() for axes in figure.axes if axes.get_title()]
    starts = [f"{evaluated.folds[index].test_start:%Y-%m}" for index in folds]
    ends = [f"{evaluated.folds[index].test_end:%Y-%m-%d %H:%M}" for index in folds]
    assert len(shown) == len(folds)
    assert all(start <= name[:7] and name[:16] < end for name, start, end in zip(shown, starts, ends, strict=True))
    assert png(figure).startswith(PNG)


def test_the_return_given_open_interest_follows_the_paths_and_marks_what_came():
    (axes,) = given_oi().axes
    lines = {line.get_label(): np.column_stack(line.get_data()) for line in axes.lines}
    paths, median = lines["scenario paths"], lines["median given OI"]
    assert len(paths) == 200
    np.testing.assert_array_equal(lines["came"], paths[:1])
    assert median[[0, -1], 0] == pytest.approx([paths[:, 0].min(), paths[:, 0].max()])
    assert np.corrcoef(median.T)[0, 1] > 0.95
    (band,) = axes.collections
    inside = band.get_paths()[0].contains_points(paths)
    assert 0.7 < inside.mean() < 0.9
    assert "coins" in axes.get_xlabel()


def test_a_gate_value_that_rounds_to_zero_is_not_written_as_zero():
    rows = [Gate(f"g{value}", value, 0.0, "x <= 0", False) for value in (1.3e-5, 0.0, 0.25)]
    words = {text.get_text() for text in figures.gate_table(rows, LABEL).axes[0].texts}
    assert {"1.3e-05", "0.0000", "0.2500"} <= words


def test_variables_are_ranked_and_the_newest_hour_stands_at_the_right():
    shares = {"log_oi": 0.2, "basis": 0.5, "drawdown": 0.3}
    encoder, decoder = figures.variable_importance(shares, {"hour_sin": 1.0}, LABEL, "").axes
    names = [text.get_text() for text in encoder.get_yticklabels()]
    assert list(zip(names, [bar.get_width() for bar in encoder.patches], strict=True)) == [
        ("log_oi", 0.2), ("drawdown", 0.3), ("basis", 0.5),
    ]  # fmt: skip
    assert [text.get_text() for text in decoder.get_yticklabels()] == ["hour_sin"]
    (axes,) = figures.attention_by_lag([0.5, 0.2, 0.3], LABEL, "").axes
    assert [round(bar.get_x() + bar.get_width() / 2) for bar in axes.patches] == [0, 1, 2]
    assert axes.xaxis_inverted()
    assert "hours before" in axes.get_xlabel()


def test_reliability_shows_the_range_that_was_forecast(evaluated):
    rare = {"reliability": [{"p": 0.04, "observed": 0.02, "count": 9}, {"p": 0.07, "observed": 0.05, "count": 1}]}
    often = {"reliability": [{"p": 0.1, "observed": 0.2, "count": 9}, {"p": 0.9, "observed": 1.0, "count": 1}]}
    widest = [
        figures.reliability({"model": {**evaluated.scores["model"], **bins}}, LABEL).axes[0].get_xlim()[1]
        for bins in (rare, often)
    ]
    assert widest == pytest.approx([0.125, 1.02])


def test_the_figure_of_the_ratio_shades_the_deep_tiers(scene, evaluated):
    deep = dataclasses.replace(evaluated, decisions=evaluated.decisions.with_columns(pl.col("tier") * 2))
    plain, shaded = (figures.ratio_over_market(one, scene.inputs.features, "BTC", LABEL) for one in (evaluated, deep))
    assert len(shaded.axes[0].patches) > len(plain.axes[0].patches) == 0


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.tables, self.captions, self.inside = [], 0, [], None

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]
        self.tables += tag == "table"
        self.inside = tag

    def handle_data(self, data):
        if self.inside in ("caption", "figcaption") and data.strip():
            self.captions.append(data)


def test_the_report_is_one_file_without_any_outside_resource(tmp_path, evaluated, verdicts):
    path = render(tmp_path / "reports" / "latest.html", content(evaluated, verdicts))
    page = path.read_text()
    reader = Reader()
    reader.feed(page)
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert len(reader.links) == 1
    assert not re.search(r"https?://|@import|url\(|<script|<link", page)
    assert list(path.parent.iterdir()) == [path]


def test_every_table_and_figure_carries_the_label_and_the_price_label(evaluated, verdicts):
    reader = Reader()
    reader.feed(html(content(evaluated, verdicts)))
    assert reader.tables == 7
    assert len(reader.captions) == 8
    assert all("simulated market, prices: spot proxy" in caption for caption in reader.captions)


def test_the_same_content_gives_the_same_bytes(tmp_path, evaluated, verdicts):
    one, two = (render(tmp_path / name, content(evaluated, verdicts)).read_bytes() for name in "ab")
    assert one == two


def test_texts_are_escaped(evaluated, verdicts):
    gate = Gate("x", float("nan"), 0.0, "a < b", False, "<b>&</b>")
    page = html(content(evaluated, [gate], name="<script>alert(1)</script>", data=[{"<i>": "<u>"}]))
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in page
    assert "&lt;u&gt;" in page


def test_an_empty_report_says_what_is_not_there(evaluated):
    page = html(content(evaluated, [], strategies=[], scores={}, decision=None, data=[], figures={}))
    for said in ("No policy was evaluated", "No gate was run", "No decision was made yet", "No forecast was scored"):
        assert said in page


def test_numbers_not_known_are_dashes(evaluated, verdicts):
    row = {**evaluated.rows()[0], "sharpe": None}
    page = html(content(evaluated, verdicts, strategies=[row, *evaluated.rows()[1:]]))
    assert "<td>–</td>" in page
    assert "nan" not in re.sub(r"<[^>]*>", "", page).lower().split()


def strategies(policy, twin):
    names = ("cvar_95", "net_return", "mean_ratio")
    rivals = {
        "static_twin_expost": twin,
        "no_hedge": (0.08, 0.2, 0.0),
        "full_hedge": (0.01, -0.01, 1.0),
        "policy": policy,
    }
    return [{"strategy": name, **dict(zip(names, values, strict=True))} for name, values in rivals.items()]


def test_the_verdict_says_that_the_policy_beats_its_twin():
    risk, gain, dominated = verdict(strategies((0.03, 0.05, 0.4), (0.04, 0.02, 0.4)))
    assert "beats every plain hedge: static_twin_expost (4.00 %)" in risk
    assert "beats" in gain
    assert dominated.startswith("No plain hedge")


def test_the_verdict_says_that_the_policy_loses():
    risk, gain, dominated = verdict(strategies((0.05, -0.05, 0.4), (0.04, 0.02, 0.4)))
    assert "LOSES to every plain hedge: static_twin_expost (4.00 %)" in risk
    assert "LOSES" in gain
    assert "full_hedge" in dominated
    assert "no_hedge" not in dominated


def test_a_tie_is_a_tie_and_the_unknown_is_said():
    assert "EQUALS" in verdict(strategies((0.04, 0.02, 0.4), (0.04, 0.02, 0.4)))[0]
    assert "cannot be compared" in verdict(strategies((None, 0.02, 0.4), (0.04, 0.02, 0.4)))[0]
    assert "cannot be compared" in verdict(strategies((float("nan"), 0.02, 0.4), (0.04, 0.02, 0.4)))[0]
