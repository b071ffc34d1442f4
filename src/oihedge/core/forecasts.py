"""What rooms agree on about forecasts: which targets lead, and what a quantile's column is called."""

from __future__ import annotations

from typing import Final

PATH_TARGETS: Final = ("log_return", "log_oi")
"""The targets that scenario paths and p_unwind are made of: the first of every model's, and what gates judge."""

LEAST: Final = {"realised_downside": 0.0}
"""Below which a target cannot come, by its definition."""


def quantile_column(target: str, level: float) -> str:
    """Return the forecast column of one target and quantile level: log_return_q02 for 0.02."""
    return f"{target}_q{100 * level:02.0f}"
