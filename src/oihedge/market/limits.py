"""Caps that ccxt does not know, kept on our side: so many calls of some raw methods in any so many seconds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from oihedge.market.settings import Limit


class Limiter:
    """The limits of one venue; `time` and `sleep` are the event loop's own unless given."""

    def __init__(
        self,
        limits: Sequence[Limit],
        *,
        time: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits = [(limit, deque[float](maxlen=limit.calls), asyncio.Lock()) for limit in limits]
        self._time, self._sleep = time, sleep

    async def wait(self, method: str) -> None:
        """Return once `method` may be called; every wait counts as a call."""
        for limit, called, turn in self._limits:
            if not method.startswith(limit.methods):
                continue
            async with turn:  # first come, first served
                if len(called) == limit.calls and (wait := called[0] + limit.per_s - self._now()) > 0:
                    await self._sleep(wait)
                called.append(self._now())

    def _now(self) -> float:
        return self._time() if self._time else asyncio.get_running_loop().time()
