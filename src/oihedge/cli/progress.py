"""Progress of long work on standard error: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oihedge.cli.tables import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

QUARTERS = 4


class Telling:
    """A Progress that shows on a console; `total` 0 begins a step whose length is not known."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self._console = console
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}
        self._step = ""
        self._quarters: dict[str, int] = {}

    @classmethod
    @contextmanager
    def on_stderr(cls) -> Iterator[Telling]:
        """Yield one that writes to standard error until the block ends."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, highlight=False)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield cls(console, bar)

    def __call__(self, done: int, total: int, what: str, lane: str = "") -> None:
        """Tell that `done` of `total` steps are finished, the newest being `what`; each `lane` has a bar of its own."""
        text = shown(f"{lane} {what}".strip())
        if total == 0:
            self.begin(text)
        elif self._console.is_terminal:
            if lane not in self._tasks:
                self._tasks[lane] = self._bar.add_task(text, total=total)
            step = f"{'' if lane else self._step} {text}".strip()
            self._bar.update(self._tasks[lane], completed=done, total=total, description=step)
        else:
            self._line(done, total, text, lane)

    def begin(self, step: str) -> None:
        """Tell that a step begins."""
        for task in self._tasks.values():
            self._bar.remove_task(task)
        self._tasks.clear()
        self._quarters.clear()
        self._step = step
        self._console.print(f"- {shown(step)}", markup=False)

    def _line(self, done: int, total: int, what: str, lane: str) -> None:
        quarter, before = QUARTERS * done // total, self._quarters.get(lane, 0)
        self._quarters[lane] = quarter
        if quarter > (before if quarter >= before else 0):
            self._console.print(f"  {self._step} {done}/{total} {what}", markup=False, soft_wrap=True)
