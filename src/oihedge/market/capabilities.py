"""docs/capabilities.md, from the table that requests are made from: `python -m oihedge.market.capabilities`."""

from __future__ import annotations

import sys

from oihedge.market.units import CONVERSIONS
from oihedge.market.venues import REACH, Offer, Reach, table_of

_HEAD = """# What the venues give

Written by `python -m oihedge.market.capabilities > docs/capabilities.md` from `market/venues.py`, the table that every
request, plan and refusal is made from; a test keeps this page and that table the same.

**H** history, **p** pages numbered from the newest, **l** only the latest rows, **n** only the present, **-** nothing
that ccxt has a public path to. The number is the most rows per request.
"""
_WHEN = {"history": "H", "pages": "p", "latest": "l", "now": "n"}
_COLUMNS = (
    "ohlcv", "mark", "index", "open_interest", "open_interest_now", "funding", "funding_now", "depth", "long_short",
    "liquidations", "implied_vol", "option_chain",
)  # fmt: skip


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([_HEAD, *_overview(), "", *_units(), "", *_series(), ""])


def _overview() -> list[str]:
    lines = ["| venue | kind | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 2) + "|"]
    for (venue, kind), reach in REACH.items():
        lines.append(f"| {venue} | {kind} | " + " | ".join(_cell(reach, column) for column in _COLUMNS) + " |")
    return lines


def _cell(reach: Reach, column: str) -> str:
    found = [offer for name, offer in reach.offers.items() if name.partition(":")[0] == column]
    if not found:
        return "-"
    rows = "" if found[0].when == "now" else f" {found[0].cap}"
    return _WHEN[found[0].when] + rows + (f" x{len(found)}" if len(found) > 1 else "")


def _units() -> list[str]:
    lines = [
        "## Open interest: what is sent, what becomes of it",
        "",
        "| sent | oi_base and oi_usd | venues |",
        "|---|---|---|",
    ]
    for unit, how in CONVERSIONS.items():
        venues = sorted({
            f"{venue} (now)" if name.endswith("_now") else venue
            for (venue, _), reach in REACH.items()
            for name, offer in reach.of("open_interest").items()
            if offer.unit is unit
        })  # fmt: skip
        said = how.source or "coins as sent; USD = coins x close of the perp bar before ts, else its open at ts"
        lines.append(f"| {unit} | {said} | {', '.join(venues)} |")
    return lines


def _series() -> list[str]:
    lines = ["## Series by series", ""]
    for (venue, kind), reach in REACH.items():
        lines += [f"### {venue}, {kind}", ""]
        pays = f"; payments every {reach.funding_h} h" if "funding" in reach.offers else ""
        pays = pays if reach.funding_fixed or not pays else pays + ", by symbol also otherwise"
        lines += [
            f"One request of cost 1 every {reach.pace_ms:g} ms{pays}."
            + (f" {_sentence(reach.note)}" if reach.note else ""),
            "",
        ]
        lines += ["| series | table | rows | reaches back | cost | raw method |", "|---|---|---|---|---|---|"]
        lines += [_line(name, offer) for name, offer in reach.offers.items()]
        lines.append("")
    return lines[:-1]


def _line(name: str, offer: Offer) -> str:
    methods = [f"`{offer.method}`"]
    methods += [f"`{offer.older}` (older windows)"] if offer.older else []
    methods += [f"`{offer.also}`"] if offer.also else []
    back = {"now": "the present", "latest": "the latest rows"}.get(offer.when, "all the way")
    back = f"{offer.days} days" if offer.days else f"{offer.rows:,} rows" if offer.rows else back
    rows = "1" if offer.when == "now" and name != "depth" else f"{offer.cap:,}" + (" levels" if name == "depth" else "")
    later = ", known a step after ts" if offer.lags else ""
    return f"| {name} | {table_of(name)} | {rows} | {back}{later} | {offer.cost:g} | {', '.join(methods)} |"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    sys.stdout.write(page())
