"""Start training from the weights of an earlier model, where they fit."""

from __future__ import annotations

from oihedge.core.protocols import FittedModel
from oihedge.forecast.learned import LearnedModel


def warm_start(fresh: LearnedModel, former: FittedModel | None) -> str:
    """Copy the weights of `former` into the untrained network of `fresh`; return "yes", or why not.

    Weights that have seen hours which are held back here would make the calibration believe them.
    """
    if former is None:
        return "no: no model was given"
    if not isinstance(former, LearnedModel) or former.kind != fresh.kind:
        return f"no: the earlier model is {former.kind}, this one {fresh.kind}"
    if former.learnt_until is None or former.learnt_until > (fresh.learnt_until or 0):
        return "no: the earlier model has learnt from hours that are held back here"
    compared = {
        "targets": (former.scalers.targets, fresh.scalers.targets),
        "inputs": (former.scalers.columns, fresh.scalers.columns),
        "inputs known ahead": (former.known, fresh.known),
        "assets": (former.scalers.assets, fresh.scalers.assets),
        "quantiles": (former.scenarios.levels, fresh.scenarios.levels),
    }
    for what, (theirs, ours) in compared.items():
        if theirs != ours:
            return f"no: the earlier model has other {what}"
    theirs, ours = former.network.state_dict(), fresh.network.state_dict()
    sizes = [{name: value.shape for name, value in state.items()} for state in (theirs, ours)]
    if sizes[0] != sizes[1]:
        return "no: the earlier model's layers have other sizes"
    fresh.network.load_state_dict(theirs)
    return "yes"
