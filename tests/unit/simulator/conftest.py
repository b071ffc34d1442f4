from __future__ import annotations

import pytest

from oihedge.config import load
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.settings import Simulator


@pytest.fixture(scope="session")
def simulator() -> Simulator:
    return load().simulator


@pytest.fixture(scope="session")
def market(simulator: Simulator) -> EmbeddedMarket:
    return EmbeddedMarket(simulator)
