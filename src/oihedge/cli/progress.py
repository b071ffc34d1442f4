"""Progress of long work on standard error: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

QUARTERS = 4


class Telling:
    """A Progress that shows on a console; `total` 0 begins a step whose length is not known."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self._console = console
        self._bar = bar
        self._task: TaskID | None = None
        self._step = ""
        self._quarter = 0

    @classmethod
    @contextmanager
    def on_stderr(cls) -> Iterator[Telling]:
        """Yield one that writes to standard error until the block ends."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, highlight=False)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield cls(console, bar)

    def __call__(self, done: int, total: int, what: str) -> None:
        """Tell that `done` of `total` steps are finished, the newest being `what`."""
        if total == 0:
            self.begin(what)
        elif self._console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(what, total=total)
            self._bar.update(self._task, completed=done, total=total, description=f"{self._step} {what}".strip())
        else:
            self._line(done, total, what)

    def begin(self, step: str) -> None:
        """Tell that a step begins."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        self._step, self._quarter = step, 0
        self._console.print(f"- {step}", markup=False)

    def _line(self, done: int, total: int, what: str) -> None:
        quarter = QUARTERS * done // total
        if quarter < self._quarter:
            self._quarter = 0
        if quarter > self._quarter:
            self._quarter = quarter
            self._console.print(f"  {self._step} {done}/{total} {what}", markup=False)
