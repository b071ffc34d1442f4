"""The ledger of verdicts: every promotion, refusal and rollback is a row, and who is champion follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from oihedge.core.errors import ModelError

PROMOTED, REFUSED, ROLLED_BACK = "promoted", "refused", "rolled_back"
_PAGE = 1000


@dataclass(frozen=True)
class Entry:
    """One verdict; `version` is what it was about (for a rollback: the version put back).

    `row` is the id of its MLflow run, and `open` whether the champion alias has yet to follow it.
    """

    number: int
    verdict: str
    version: str
    run_id: str
    reason: str
    at: str
    row: str = ""
    open: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain values of what was judged, and how."""
        return {name: value for name, value in asdict(self).items() if name not in ("row", "open")}


class Ledger:
    """Rows are MLflow runs of an experiment of their own, so that the UI shows them.

    A promotion or rollback runs until the alias has followed: one that still runs is under way, or its process died.
    """

    def __init__(self, client: Any, experiment_id: str, model_name: str) -> None:
        self._client, self._experiment_id, self._model_name = client, experiment_id, model_name

    def entries(self) -> list[Entry]:
        """Return every row, oldest first."""
        return [_entry(row) for row in self._rows()]

    def _rows(self, *, deleted: bool = False) -> list[Any]:
        """Return the MLflow runs, oldest first, with `deleted` also those that were deleted and can be restored."""
        from mlflow.entities import ViewType

        rows: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.model = '{self._model_name}'",
                run_view_type=ViewType.ALL if deleted else ViewType.ACTIVE_ONLY,
                max_results=_PAGE,
                page_token=token,
            )
            rows += page
            token = page.token
            if not token:
                return sorted(rows, key=_number)

    def write(self, verdict: str, version: str, run_id: str, reason: str, at: str) -> None:
        """Append a row; `close` it once the alias has followed. A refusal is closed at once: it moves nothing."""
        number = max(map(_number, self._rows(deleted=True)), default=0) + 1
        tags = {
            "model": self._model_name, "number": str(number), "verdict": verdict, "version": version,
            "model_run_id": run_id, "reason": reason, "at": at,
        }  # fmt: skip
        run = self._client.create_run(
            self._experiment_id, tags=tags, run_name=f"{number:04d} {verdict} version {version}"
        )
        if verdict == REFUSED:
            self.close(run.info.run_id)

    def close(self, row: str) -> None:
        """Mark a row as carried out."""
        self._client.set_terminated(row, "FINISHED")


def _number(run: Any) -> int:
    try:
        return int(run.data.tags["number"])
    except (KeyError, ValueError):
        raise _damaged(run, "number") from None


def _entry(run: Any) -> Entry:
    tags, info = run.data.tags, run.info
    try:
        return Entry(
            _number(run), tags["verdict"], tags["version"], tags["model_run_id"], tags["reason"], tags["at"],
            info.run_id, info.status == "RUNNING",
        )  # fmt: skip
    except KeyError as error:
        raise _damaged(run, str(error.args[0])) from None


def _damaged(run: Any, tag: str) -> ModelError:
    return ModelError(f"row {run.info.run_id} of the ledger is damaged", got=f"no good tag {tag!r}", do="restore it")


def champions(entries: Sequence[Entry]) -> list[str]:
    """Return the versions in line, the one in service last: a promotion adds one, a rollback takes one away."""
    line: list[str] = []
    for entry in entries:
        if entry.verdict == PROMOTED:
            line.append(entry.version)
        elif entry.verdict == ROLLED_BACK and line:
            line.pop()
    return line


def last_move(entries: Sequence[Entry]) -> Entry | None:
    """Return the last promotion or rollback, if there is one."""
    return next((entry for entry in reversed(entries) if entry.verdict != REFUSED), None)


def awaited(entries: Sequence[Entry]) -> str | None:
    """Return the version that the alias has yet to follow to, if the last promotion or rollback is open."""
    last, line = last_move(entries), champions(entries)
    return line[-1] if line and last is not None and last.open else None


def before(entries: Sequence[Entry]) -> str:
    """Return the version that a rollback puts back.

    Raises:
        ModelError: if there is none.
    """
    line = champions(entries)
    if len(line) < 2:
        raise ModelError(
            "there is no previous champion to put back",
            expected="two promotions in the ledger",
            got="one" if line else "none",
            do="the model-free rule decides when there is no champion",
        )
    return line[-2]
