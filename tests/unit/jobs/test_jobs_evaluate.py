"""What an operator is told of fits."""

import pytest

from oihedge.jobs.evaluate import warnings_of


@pytest.mark.parametrize("stopped_by", ["epochs", "patience", None])
def test_a_fit_that_ended_by_itself_is_not_warned_of(stopped_by):
    assert warnings_of({"stopped_by": stopped_by, "spread": {"log_return": 1.0}}) == []
    assert warnings_of({}) == []  # counted, not trained


def test_a_fit_that_was_cut_by_the_clock_is_told():
    (line,) = warnings_of({"stopped_by": "time"})
    assert "forecast.max_train_s" in line
