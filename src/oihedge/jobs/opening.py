"""Open what a job works on, as the settings say: the lake, the registry, the market's address, positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from oihedge.config import Config
from oihedge.core.clock import Clock, FixedClock
from oihedge.core.errors import ConfigError
from oihedge.lake.store import Lake

if TYPE_CHECKING:
    from oihedge.registry.client import Registry


def open_lake(config: Config) -> Lake:
    """Return the lake of this configuration; a lake of the other kind (simulated or real) is refused."""
    return Lake(
        config.lake.place(config.home),
        simulated=config.simulated,
        lock_timeout_s=config.lake.lock_timeout_s,
        compact_after_files=config.lake.compact_after_files,
        s3=config.lake.s3 if config.lake.remote else None,
    )


def open_registry(config: Config) -> Registry:
    """Return the MLflow registry of this configuration."""
    from oihedge.registry.client import Registry  # mlflow takes seconds to import

    return Registry(config.registry, config.home)


@contextmanager
def serving(config: Config, clock: Clock, port: int = 0) -> Iterator[str]:
    """Serve the embedded market on loopback by `clock` and yield its address."""
    from oihedge.simulator.market import EmbeddedMarket
    from oihedge.simulator.server import LoopbackServer

    with LoopbackServer(EmbeddedMarket(config.simulator), clock, port=port) as server:
        yield server.url


@contextmanager
def market_address(config: Config, as_of: datetime, given: str | None) -> Iterator[str | None]:
    """Yield where the venues answer at `as_of`.

    None for real venues; else the embedded market, by the server at `given` or by one of its own, standing at `as_of`.

    Raises:
        ConfigError: if an address is given for real venues.
    """
    if not config.simulated:
        if given is not None:
            raise ConfigError("market_url is for the embedded market", expected="none with real venues", got=given)
        yield None
    elif given is not None:
        yield f"{given}/at/{int(as_of.timestamp())}"
    else:
        with serving(config, FixedClock(as_of)) as url:
            yield url
