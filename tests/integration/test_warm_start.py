"""A warm start: from the champion of then, in the final fit alone, and part of what makes a retrain the same one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fakes.tiny_training import AS_OF, tiny_market

from oihedge.config import Config, load
from oihedge.core.protocols import FittedModel
from oihedge.jobs import evaluate, retrain
from oihedge.jobs.opening import open_registry

pytestmark = pytest.mark.long
Fits = list[tuple[str, FittedModel | None]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Config]:
    experiment = tiny_market(tmp_path_factory.mktemp("tiny"))
    overrides = ["forecast=persistence"]  # what starts from what is the jobs' affair, whatever the model
    home = experiment.parent / "market"
    return lambda warm: load(
        [*overrides, f"forecast.warm_start={str(warm).lower()}"], experiment=str(experiment), home=home
    )


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    """Every fit as it happens: the checkpoint's name, and what it starts from."""
    seen: Fits = []
    real = evaluate.fit

    def fit(*args: Any, **named: Any) -> Any:
        seen.append((named["checkpoint"].stem if named["checkpoint"] else "", named["start_from"]))
        return real(*args, **named)

    monkeypatch.setattr(evaluate, "fit", fit)
    return seen


def test_only_the_final_fit_starts_from_the_champion_of_then(settings: Callable[[bool], Config], fits: Fits) -> None:
    config = settings(True)
    registry = open_registry(config)
    first = retrain.run(config, as_of=AS_OF)
    assert [start for _, start in fits] == [None] * len(fits), "there is no champion yet"
    challenger = registry.challenger()
    assert challenger is not None
    registry.promote(challenger, reason="for the test", at=AS_OF)

    again = retrain.run(config, as_of=AS_OF)
    assert (again.reused, again.version) == (True, first.version), "a run does not start from what it made itself"

    fits.clear()
    cold = retrain.run(settings(False), as_of=AS_OF + timedelta(minutes=5))
    assert not cold.reused
    assert [start for _, start in fits] == [None] * len(fits)

    fits.clear()
    warm = retrain.run(config, as_of=AS_OF + timedelta(minutes=5))
    assert warm.version not in {first.version, cold.version}
    started = [name for name, start in fits if start is not None]
    assert started == ["final"], "the champion has seen the folds' test windows"
    assert {"fold 1", "fold 2", "fold 3", "final"} <= {name for name, _ in fits}

    fits.clear()
    earlier = retrain.run(config, as_of=AS_OF - timedelta(hours=2))
    assert not earlier.reused
    assert [start for _, start in fits] == [None] * len(fits), "the champion knows more than was known then"

    fits.clear()
    (registry.model_folder(challenger) / "manifest.json").write_text("")
    beside = retrain.run(config, as_of=AS_OF + timedelta(minutes=10))
    assert not beside.reused
    assert [start for _, start in fits] == [None] * len(fits), "the champion is damaged"
