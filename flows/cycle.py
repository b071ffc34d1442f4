"""The whole loop: ingest, validate, retrain, promote, hedge, report."""

from __future__ import annotations

from typing import Any

from prefect import Flow, flow

from flows import artifacts, corridor
from flows.hedge import hedge
from flows.ingest import ingest
from flows.naming import run_name
from flows.promote import promote
from flows.report import write_report
from flows.retrain import retrain
from flows.validate import validate
from oihedge.core.settings import Instant

STEPS: tuple[Flow[..., dict[str, Any]], ...] = (ingest, validate, retrain, promote, hedge)


@flow(name="cycle", flow_run_name=run_name, persist_result=False)
def cycle(
    overrides: tuple[str, ...] = (),
    experiment: str | None = None,
    home: str | None = None,
    as_of: Instant | None = None,
) -> dict[str, Any]:
    """Run every step once, all at one instant; a gate that refuses is a result, not a failure.

    Args:
        overrides: Hydra overrides, e.g. `forecast=persistence`.
        experiment: a name in conf/experiment/ or a path to a .yaml file.
        home: folder that relative paths start from.
        as_of: the instant to work at; default: the time for which this run was scheduled.
    """
    with corridor.enter("cycle", overrides=overrides, experiment=experiment, home=home, as_of=as_of, wait_s=0) as visit:
        done: dict[str, Any] = {"as_of": visit.as_of.isoformat()}
        for step in STEPS:
            corridor.begin(step.name)
            done[step.name] = step(overrides, experiment, home, visit.as_of)
        corridor.begin("report")
        path = write_report(visit.config, visit.as_of)
        artifacts.show_report(visit.config, path)
        return {**done, "report": {"path": str(path)}}
