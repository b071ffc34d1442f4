"""What a hedge would have met: realised downside and hedge ratio over the hours that end at a row.

Known at the row like every other feature; as a target h hours ahead, with h at least the window, wholly ex post.
"""

from __future__ import annotations

import polars as pl

from oihedge.features import rolling


def with_realised_downside(rows: pl.LazyFrame, hours: int) -> pl.LazyFrame:
    """Add `realised_downside`: the root mean square over `hours` of the hourly losses, gains counting as 0.

    The downside deviation about 0 of Sortino and van der Meer (1991), in log change per hour; needs log_return, and is
    null where one of the hours is missing.
    """
    loss = pl.col("log_return").clip(upper_bound=0.0)
    return rows.with_columns((rolling.total(loss * loss, hours) * (1 / hours)).sqrt().alias("realised_downside"))


def with_hedge_ratio(rows: pl.LazyFrame, hours: int) -> pl.LazyFrame:
    """Add `hedge_ratio`: the perp notional to be short per notional of spot that left the least variance over `hours`.

    The minimum-variance ratio of Ederington (1979) from hourly log changes about a zero mean, sum(spot * perp) over
    sum(perp^2); needs log_return and perp_price, and is null where one of the hours is missing or the perp stood still.
    """
    perp = pl.col("perp_price").log() - pl.col("perp_price").log().shift(1)
    common, own = (rolling.total(change * perp, hours) for change in (pl.col("log_return"), perp))
    return rows.with_columns(pl.when(own > 0).then(common / own).alias("hedge_ratio"))
