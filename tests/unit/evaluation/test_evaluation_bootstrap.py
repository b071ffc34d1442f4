import numpy as np
import pytest

from oihedge.core.errors import DataError
from oihedge.evaluation.bootstrap import cvar_difference
from oihedge.evaluation.metrics import cvar

GIVEN = {"block": 48, "draws": 300, "confidence": 0.9, "seed": 5}


def returns(seed=0, sizes=(400, 300)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size) * 0.02 for size in sizes]


def test_the_point_is_the_difference_of_the_two_cvars_and_lies_in_the_interval():
    ours, theirs = returns(), [part * 1.5 for part in returns()]
    found = cvar_difference(ours, theirs, **GIVEN)
    assert found.point == pytest.approx(cvar(np.concatenate(ours)) - cvar(np.concatenate(theirs)))
    assert found.lower <= found.point <= found.upper < 0


def test_pairing_cancels_what_both_share():
    assert cvar_difference(returns(), returns(), **GIVEN) == cvar_difference(returns(), returns(), **GIVEN)
    same = cvar_difference(returns(), returns(), **GIVEN)
    assert (same.point, same.lower, same.upper) == (0, 0, 0)


def test_the_interval_depends_on_the_seed_only():
    pair = (returns(0), returns(1))
    assert cvar_difference(*pair, **GIVEN) == cvar_difference(*pair, **GIVEN)
    assert cvar_difference(*pair, **GIVEN) != cvar_difference(*pair, **{**GIVEN, "seed": 6})


def test_more_confidence_widens_the_interval():
    pair = (returns(0), returns(1))
    narrow, wide = (cvar_difference(*pair, **{**GIVEN, "confidence": level}) for level in (0.5, 0.95))
    assert wide.lower <= narrow.lower <= narrow.upper <= wide.upper


def test_a_block_longer_than_a_fold_is_shortened_and_short_folds_are_skipped():
    parts = [np.empty(0), *returns(sizes=(30, 60))]
    assert np.isfinite(cvar_difference(parts, [part * 2 for part in parts], **{**GIVEN, "block": 500}).upper)


def test_unpaired_or_empty_returns_are_refused():
    with pytest.raises(DataError, match="do not cover the same hours"):
        cvar_difference(returns(), returns(sizes=(400, 299)), **GIVEN)
    with pytest.raises(DataError, match="no 24 h return"):
        cvar_difference([np.empty(0)], [np.empty(0)], **GIVEN)
