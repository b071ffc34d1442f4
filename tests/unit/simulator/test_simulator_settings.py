"""Settings of the embedded market that contradict each other are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from oihedge.simulator.noise import generator
from oihedge.simulator.settings import Simulator


def changed(simulator: Simulator, *path: str, value: Any) -> str:
    raw = simulator.model_dump(mode="json")
    place = raw
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("assets",), {}, "at least one asset"),
        (("perps", "bybit", "instruments", "NEAR"), None, "venue bybit has no instrument for asset 'NEAR'"),
        (("perps", "bybit", "funding_interval_h"), 7, "does not divide a day"),
        (("origin",), "2024-01-01T01:00:00Z", "midnight UTC"),
        (("cascade", "decay"), 1.5, "less than or equal to 1"),
        (("seed",), -1, "greater than or equal to 0"),
    ],
)
def test_contradictions_are_refused(simulator: Simulator, path: tuple[str, ...], value: Any, named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Simulator.model_validate_json(changed(simulator, *path, value=value))


def test_noise_is_drawn_by_counter() -> None:
    first = generator(1, "BTC", 5, "hours").standard_normal(50)
    assert (generator(1, "BTC", 5, "hours").standard_normal(50) == first).all()
    others = [(2, "BTC", 5, "hours"), (1, "ETH", 5, "hours"), (1, "BTC", 6, "hours"), (1, "BTC", 5, "grid")]
    for seed, stream, day, purpose in others:
        assert (generator(seed, stream, day, purpose).standard_normal(50) != first).all()  # type: ignore[arg-type]


def test_draws_of_neighbouring_days_do_not_overlap() -> None:
    days = [generator(1, "BTC", day, "hours").standard_normal(5000) for day in range(3)]
    assert len({float(x) for draws in days for x in draws}) == 15_000
