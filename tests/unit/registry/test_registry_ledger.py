import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from oihedge.core.errors import ModelError
from oihedge.registry import client
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


def test_the_number_of_a_row_that_was_deleted_is_not_given_again(registry, versions):
    for version in versions[:2]:
        registry.promote(version, reason="held", at=AT)
    gone = registry._ledger.entries()[0].row
    registry._client.delete_run(gone)
    registry.promote(versions[2], reason="held", at=AT)
    assert verdicts(registry) == [(2, "promoted", "2"), (3, "promoted", "3")]
    assert registry.champion() == versions[2]
    registry._client.delete_run(registry._ledger.entries()[-1].row)
    registry.promote(versions[0], reason="held", at=AT)
    registry._client.restore_run(gone)
    assert [number for number, *_ in verdicts(registry)] == [1, 2, 4]
    assert registry.champion() == versions[0]


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from oihedge.registry.client import Registry
from oihedge.registry.ledger import Ledger
from oihedge.registry.settings import Registry as Settings

verb, version, at, where = sys.argv[3:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if where == "before the alias":
    Registry._put_in_service = die
else:
    Ledger.close = die
registry = Registry(Settings.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
if verb == "promote":
    registry.promote(registry._by_version(version), reason="held", at=datetime.fromisoformat(at))
else:
    registry.rollback(at=datetime.fromisoformat(at), reason="bad night")
"""


@pytest.fixture
def killed(registry):
    """Return what promotes or rolls back in a process of its own that dies between the ledger and the alias."""

    def run(verb, version="", at=AT, where="before the alias"):
        given = (registry._settings.model_dump_json(), str(registry._home), verb, version, at.isoformat(), where)
        assert subprocess.run([sys.executable, "-c", KILLED, *given], check=False).returncode == -signal.SIGKILL

    return run


def alias(registry):
    return registry._by_alias("champion").version


def still_open(registry):
    return [entry.number for entry in registry._ledger.entries() if entry.open]


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_promotion_that_died_before_the_alias_counts_and_is_completed(registry, versions, killed, earlier):
    for version in versions[:earlier]:
        registry.promote(version, reason="held", at=AT)
    new = versions[earlier]
    killed("promote", new.version)
    assert registry.champion() == new
    assert still_open(registry) == [earlier + 1]
    registry.settle()
    assert (alias(registry), registry.champion(), still_open(registry)) == (new.version, new, [])
    registry.promote(new, reason="held", at=AT)
    assert len(registry.ledger()) == earlier + 1


def test_a_rollback_that_died_before_the_alias_counts_and_asked_again_goes_no_further(registry, versions, killed):
    for version in versions:
        registry.promote(version, reason="held", at=AT)
    killed("rollback", at=AT + DAY)
    assert registry.champion() == versions[1]
    registry.refuse(versions[2], reason="was rolled back", at=AT + DAY)
    assert registry.rollback(at=AT + 2 * DAY, reason="bad night") == versions[1]
    assert (alias(registry), registry.champion(), still_open(registry)) == ("2", versions[1], [])
    assert verdicts(registry)[3:] == [(4, "rolled_back", "2"), (5, "refused", "3")]
    assert registry.rollback(at=AT + 3 * DAY, reason="bad night") == versions[0]


def test_a_rollback_that_died_after_the_alias_swallows_no_later_one(registry, versions, killed):
    for version in versions:
        registry.promote(version, reason="held", at=AT)
    killed("rollback", at=AT + DAY, where="after the alias")
    assert (alias(registry), still_open(registry)) == ("2", [4])
    assert registry.rollback(at=AT + 2 * DAY, reason="the one before is no better") == versions[0]
    assert (alias(registry), registry.champion(), still_open(registry)) == ("1", versions[0], [])


def test_after_a_promotion_that_died_another_verdict_begins_where_the_ledger_stands(registry, versions, killed):
    registry.promote(versions[0], reason="held", at=AT)
    killed("promote", "2")
    assert registry.rollback(at=AT + DAY, reason="bad night") == registry.champion() == versions[0]
    killed("promote", "2")
    registry.promote(versions[2], reason="held", at=AT)
    assert registry.champion() == versions[2]
    assert still_open(registry) == []
    assert champions(registry._ledger.entries()) == ["1", "2", "3"]


def test_a_promotion_that_died_of_a_version_that_is_gone_leaves_no_champion_and_hinders_nothing(
    registry, versions, killed
):
    killed("promote", "1")
    registry._client.delete_model_version("oihedge", "1")
    registry.settle()
    assert registry.champion() is None
    registry.promote(versions[1], reason="held", at=AT)
    assert registry.champion() == versions[1]


def test_an_alias_that_was_moved_by_hand_is_no_champion(registry, versions):
    for version in versions[:2]:
        registry.promote(version, reason="held", at=AT)
    for version in (versions[0], versions[2]):
        registry.set_alias("champion", version)
        registry.settle()
        assert (alias(registry), registry.champion()) == (version.version, None)


def test_a_verdict_that_hangs_or_a_lock_that_is_none_hangs_no_reader(registry, versions, monkeypatch):
    monkeypatch.setattr(client, "VERDICT_S", 0.1)
    registry.promote(versions[0], reason="held", at=AT)
    registry.set_alias("champion", versions[1])
    with registry._verdict_lock(), pytest.raises(ModelError, match="cannot be read"):
        registry.champion()
    lock = registry._artifacts.parent / ".verdict.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        registry.champion()


@pytest.mark.parametrize("tag", ["number", "version", "reason"])
def test_a_row_of_the_ledger_that_lost_a_tag_is_named(registry, versions, tag):
    registry.promote(versions[0], reason="held", at=AT)
    row = registry._ledger.entries()[0].row
    registry._client.delete_tag(row, tag)
    with pytest.raises(ModelError, match=f"row {row} of the ledger is damaged.*{tag}"):
        registry.champion()


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
