from datetime import UTC, datetime, timedelta

import pytest

from oihedge.core.errors import ModelError
from oihedge.registry.ledger import PROMOTED, REFUSED, ROLLED_BACK, Entry, before, champions

AT = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def versions(registry, add_version):
    with registry.run("three") as run:
        return [add_version(run) for _ in range(3)]


def verdicts(registry):
    return [(row["number"], row["verdict"], row["version"]) for row in registry.ledger()]


def test_a_promotion_moves_the_alias_and_is_written_once(registry, versions):
    for _ in range(2):
        registry.promote(versions[0], reason="every gate held", at=AT)
    assert registry.champion() == versions[0]
    assert registry.ledger() == [
        {"number": 1, "verdict": "promoted", "version": "1", "run_id": versions[0].run_id,
         "reason": "every gate held", "at": "2025-01-01T00:00:00Z"}
    ]  # fmt: skip


def test_a_refusal_leaves_the_champion_and_is_written_once_per_reason(registry, versions):
    registry.promote(versions[0], reason="held", at=AT)
    registry.refuse(versions[1], reason="coverage", at=AT)
    registry.refuse(versions[1], reason="coverage", at=AT + DAY)
    registry.refuse(versions[1], reason="latency", at=AT + DAY)
    assert registry.champion() == versions[0]
    assert verdicts(registry) == [(1, "promoted", "1"), (2, "refused", "2"), (3, "refused", "2")]


def test_a_rollback_puts_the_previous_champion_back_at_once(registry, versions):
    for version in versions[:2]:
        registry.promote(version, reason="held", at=AT)
    assert registry.rollback(at=AT + DAY, reason="bad night") == versions[0]
    assert registry.champion() == versions[0]
    assert registry.rollback(at=AT + DAY, reason="bad night") == versions[0]
    assert verdicts(registry)[-1] == (3, "rolled_back", "1")
    with pytest.raises(ModelError, match="no previous champion"):
        registry.rollback(at=AT + 2 * DAY, reason="again")
    registry.promote(versions[1], reason="mended", at=AT + 2 * DAY)
    assert registry.champion() == versions[1]


def test_rollback_without_a_champion_is_an_error(registry):
    with pytest.raises(ModelError, match="no previous champion to put back"):
        registry.rollback(at=AT, reason="panic")


def test_a_promotion_that_died_before_the_alias_is_completed(registry, versions):
    registry._ledger.write(PROMOTED, "1", versions[0].run_id, "held", "2025-01-01T00:00:00Z")
    assert registry.champion() is None
    registry.promote(versions[0], reason="held", at=AT)
    assert registry.champion() == versions[0]
    assert len(registry.ledger()) == 1


def test_the_challenger_alias_follows_the_newest_version(registry, versions):
    for version in versions:
        registry.set_alias("challenger", version)
        assert registry.challenger() == version
    assert registry.champion() is None


def entry(verdict, version):
    return Entry(0, verdict, version, "", "", "")


def test_who_is_champion_follows_from_the_ledger():
    rows = [
        entry(PROMOTED, "1"), entry(REFUSED, "2"), entry(PROMOTED, "3"), entry(PROMOTED, "4"), entry(ROLLED_BACK, "3"),
    ]  # fmt: skip
    assert champions(rows) == ["1", "3"]
    assert before(rows) == "1"
