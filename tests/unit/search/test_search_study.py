"""A study goes on where it stopped, and what it tries depends on its seed and its losses alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from oihedge.config import load
from oihedge.core.errors import ConfigError
from oihedge.search.settings import Range, Search
from oihedge.search.study import Study

SPACE = Search(
    trials=5, prune_after_epochs=1, choices={"hidden_size": (4, 8, 16)},
    ranges={"dropout": Range(low=0.0, high=0.5), "learning_rate": Range(low=1e-4, high=1e-1, log=True)},
)  # fmt: skip


def study(folder: Path, name: str = "s", seed: int = 1) -> Study:
    return Study(folder / "search.db", name, SPACE, seed)


def loss_of(values: dict[str, Any]) -> float:
    return float(values["dropout"] + abs(values["learning_rate"] - 0.01) + 1 / values["hidden_size"])


def carry_on(one: Study, count: int) -> list[dict[str, Any]]:
    tried = []
    while one.ended < count:
        trial = one.ask()
        one.tell(trial, loss_of(trial.values))
        tried.append(trial.values)
    return tried


def test_a_study_that_died_in_trials_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole = carry_on(study(tmp_path / "whole"), 14)
    tried = []
    for count in (2, 5, 11, 14):  # past the ten random trials with which the sampler begins
        one = study(tmp_path / "killed")
        tried += carry_on(one, count)
        one.ask()  # and dies
    assert tried == whole
    assert study(tmp_path / "killed").rows() == study(tmp_path / "whole").rows()


def test_seeds_draw_differently_and_values_lie_in_the_space(tmp_path: Path) -> None:
    one, other = (carry_on(study(tmp_path / str(seed), seed=seed), 4) for seed in (1, 2))
    assert one != other
    assert len({tuple(values.values()) for values in one}) == 4
    for values in one + other:
        assert values["hidden_size"] in (4, 8, 16)
        assert 0 <= values["dropout"] <= 0.5
        assert 1e-4 <= values["learning_rate"] <= 1e-1


def test_studies_of_other_names_share_the_file_and_nothing_else(tmp_path: Path) -> None:
    carry_on(study(tmp_path, "one"), 2)
    assert study(tmp_path, "two").ended == 0
    assert study(tmp_path, "one").ended == 2


def test_trials_are_ranked_by_loss_and_failed_ones_say_why(tmp_path: Path) -> None:
    one = study(tmp_path)
    one.tell(one.ask(), 2.0)
    one.fail(one.ask(), "no finite loss")
    best = one.ask()
    one.tell(best, 1.0)
    one.tell(one.ask(), 0.5, whole=False)
    rows = one.rows()
    assert [(row["trial"], row["state"], row["loss"]) for row in rows] == [
        (2, "complete", 1.0), (0, "complete", 2.0), (1, "failed", None), (3, "cut short", None)
    ]  # fmt: skip
    assert rows[2]["reason"] == "no finite loss"
    assert one.best() == best.values
    assert one.ended == 4


def test_a_trial_far_above_the_others_is_not_worth_going_on(tmp_path: Path) -> None:
    one = study(tmp_path)
    for _ in range(5):
        trial = one.ask()
        assert all(trial.goes_on(epoch, 1.0 - 0.1 * epoch) for epoch in range(4))
        one.tell(trial, 0.7)
    trial = one.ask()
    assert [trial.goes_on(epoch, 9.0) for epoch in range(3)] == [True, False, False]


def test_without_a_whole_trial_there_is_no_best(tmp_path: Path) -> None:
    assert study(tmp_path).best() == {}


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "search.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match="cannot be opened"):
        study(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("+search.choices.hidden_sizes=[4]", "hidden_sizes"),
        ("+search.choices.horizon_h=[4,8]", "horizon_h"),
        ("search.ranges.dropout.high=-1", "a range must rise"),
        ("search.choices.hidden_size=[]", "without a value"),
        ("+search.choices.dropout=[0]", "twice"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(wrong: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load((wrong,))


def test_a_log_range_begins_above_zero() -> None:
    with pytest.raises(ValidationError, match="begin above 0"):
        Range(low=0.0, high=1.0, log=True)
