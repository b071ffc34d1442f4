"""A study with Optuna: the trials so far in a sqlite file, and which settings come next.

sqlite and not Optuna's journal file: a line half written by a killed process would end that journal for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from oihedge.core.errors import ConfigError
from oihedge.search.settings import Search

_REASON, _VALUES = "reason", "values"
_DIGITS = 3


@dataclass(frozen=True)
class Trial:
    """Settings to try; `number` counts the trials that ended before it."""

    number: int
    values: dict[str, Any]
    asked: optuna.Trial

    def goes_on(self, epoch: int, loss: float) -> bool:
        """Note the loss after `epoch` and return whether it is worth going on."""
        self.asked.report(loss, epoch)
        return not self.asked.should_prune()


class Study:
    """The trials of one search; opening it again goes on with it, and a trial that died is tried again.

    Args:
        path: the sqlite file, made on first use; it may hold many studies.
        name: of the study: what makes losses comparable belongs into it.
        settings: the space.
        seed: of the draws; with the same losses the same trials follow.

    Raises:
        ConfigError: if the file is no such store.
    """

    def __init__(self, path: Path, name: str, settings: Search, seed: int) -> None:
        self._settings, self._seed = settings, seed
        path.parent.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=settings.prune_after_epochs)
        try:
            self._study = optuna.create_study(
                storage=f"sqlite:///{path}", study_name=name, load_if_exists=True, pruner=pruner
            )
            for dead in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                self._study.tell(dead.number, state=TrialState.FAIL)
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise ConfigError(
                f"the store of searches {path} cannot be opened: {type(error).__name__}", do="move it away"
            ) from error

    @property
    def ended(self) -> int:
        """How many trials ended by themselves: completed, cut short, or failed with a reason."""
        return len(self._ended())

    def ask(self) -> Trial:
        """Return what to try next; it depends on the seed and on the trials that ended, not on those that died."""
        number = self.ended
        (seed,) = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        asked = self._study.ask()
        values: dict[str, Any] = {
            name: asked.suggest_categorical(name, list(choices)) for name, choices in self._settings.choices.items()
        }
        for name, span in self._settings.ranges.items():
            values[name] = float(f"{asked.suggest_float(name, span.low, span.high, log=span.log):.{_DIGITS}g}")
        asked.set_user_attr(_VALUES, values)
        return Trial(number, values, asked)

    def tell(self, trial: Trial, loss: float, *, whole: bool = True) -> None:
        """Note how `trial` ended; not `whole`: it was cut short, and `loss` is only the best until then."""
        self._study.tell(trial.asked, loss if whole else None, TrialState.COMPLETE if whole else TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        """Note that `trial` failed by itself and need not be tried again."""
        trial.asked.set_user_attr(_REASON, reason)
        self._study.tell(trial.asked, state=TrialState.FAIL)

    def rows(self) -> list[dict[str, Any]]:
        """Return the ended trials, best first, those without a loss last: trial, state, loss, the values, reason."""
        told = [_row(number, trial) for number, trial in enumerate(self._ended())]
        return sorted(told, key=lambda row: (row["loss"] is None, row["loss"], row["trial"]))

    def best(self) -> dict[str, Any]:
        """Return the values of the trial with the least loss; none where no trial was completed."""
        first = next((row for row in self.rows() if row["state"] == "complete"), None)
        return {name: first[name] for name in self._settings.names} if first else {}

    def _ended(self) -> list[FrozenTrial]:
        over = (TrialState.COMPLETE, TrialState.PRUNED)
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state in over or (trial.state == TrialState.FAIL and _REASON in trial.user_attrs)
        ]


def _row(number: int, trial: FrozenTrial) -> dict[str, Any]:
    complete = trial.state == TrialState.COMPLETE
    state = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "cut short"}.get(trial.state, "failed")
    reason = trial.user_attrs.get(_REASON, "")
    return {"trial": number, "state": state, "loss": trial.value if complete else None,
            **trial.user_attrs[_VALUES], "reason": reason}  # fmt: skip
