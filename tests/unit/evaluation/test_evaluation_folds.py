from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oihedge.core.errors import DataError
from oihedge.evaluation.folds import folds

END = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)


def test_the_newest_fold_ends_at_the_last_whole_hour_and_test_windows_touch(make_settings):
    laid = folds(END - timedelta(days=365), END, make_settings(), train_days=200, calibration_days=30)
    assert laid[-1].test_end == datetime(2025, 7, 1, tzinfo=UTC)
    assert [fold.index for fold in laid] == [0, 1, 2]
    assert all(older.test_end == newer.test_start for older, newer in pairwise(laid))


@settings(max_examples=40, deadline=None)
@given(
    purge_h=st.integers(1, 200), test_days=st.integers(1, 30), train=st.integers(2, 60), calibration=st.integers(1, 40)
)  # fmt: skip
def test_no_label_of_one_window_can_look_into_the_next(make_settings, purge_h, test_days, train, calibration):
    chosen = make_settings().model_copy(update={"purge_h": purge_h, "test_days": test_days})
    purge = timedelta(hours=purge_h)
    for fold in folds(END - timedelta(days=400), END, chosen, train, calibration):
        assert fold.validation_start - fold.train_end >= purge
        assert fold.test_start - fold.calibration_end >= purge
        assert fold.train_end - fold.train_start == timedelta(days=train)
        assert fold.train_start < fold.train_end < fold.validation_start < fold.calibration_end < fold.test_start


def test_a_shorter_history_shortens_the_training_window_but_not_below_half(make_settings):
    # 60 test days + 10 calibration days + 2 x 24 h purge before the oldest test window leave 60 of 80 training days.
    laid = folds(END - timedelta(days=132), END, make_settings(), train_days=80, calibration_days=10)
    assert laid[0].train_end - laid[0].train_start == timedelta(days=60)
    assert laid[-1].train_end - laid[-1].train_start == timedelta(days=80)
    with pytest.raises(DataError, match=r"too little history.*at least 112\.0 days.*got 100\.0 days.*backfill"):
        folds(END - timedelta(days=100), END, make_settings(), train_days=80, calibration_days=10)
