"""The flows on their schedules: what `oihedge serve` puts up."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.states import Crashed
from prefect.types.entrypoint import EntrypointType

from flows import corridor
from flows.backfill import backfill, refill
from flows.cycle import cycle
from flows.hedge import hedge
from flows.ingest import ingest
from flows.maintain import maintain
from flows.promote import promote
from flows.retrain import retrain
from flows.validate import validate
from oihedge.config import Config
from oihedge.core.errors import BusyError
from oihedge.jobs.lease import lease

LEASES = ("ingest", "validate", "retrain", "promote", "hedge", "maintain", "cycle")
ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)


def deployments(
    config: Config, *, overrides: tuple[str, ...], experiment: str | None, market_url: str | None
) -> list[RunnerDeployment]:
    """Return every flow as a deployment of this home: five on the crons of conf/schedule/ (UTC), the rest on demand."""
    common = {"overrides": list(overrides), "experiment": experiment, "home": str(config.home)}
    market = {**common, "market_url": market_url}
    plan: tuple[tuple[Flow[Any, Any], str | None, dict[str, Any]], ...] = (
        (ingest, config.schedule.ingest, market),
        (validate, config.schedule.validation, common),
        (retrain, config.schedule.retrain, {**common, "promote_after": True}),
        (hedge, config.schedule.hedge, common),
        (maintain, config.schedule.maintenance, common),
        (promote, None, common),
        (backfill, None, market),
        (refill, None, market),
        (cycle, None, common),
    )
    return [_deployment(config, flow, cron, parameters) for flow, cron, parameters in plan]


def _deployment(config: Config, flow: Flow[Any, Any], cron: str | None, parameters: dict[str, Any]) -> RunnerDeployment:
    deployment = flow.to_deployment(
        name=config.run.name,
        schedule=Cron(cron, timezone="UTC") if cron else None,
        parameters=parameters,
        concurrency_limit=ONE_AT_A_TIME,
        description=f"{flow.description or flow.name} ({config.run.label})",
        tags=[config.run.label],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(deployment, RunnerDeployment)  # Prefect answers with a coroutine only inside an event loop
    return deployment


def serve_flows(config: Config, *, overrides: tuple[str, ...], experiment: str | None, market_url: str | None) -> None:
    """Serve the deployments until SIGINT or SIGTERM; schedules stay on for the next start.

    The caller holds this home's `serve` lease: runs that an earlier server process had taken on are therefore dead.
    """
    bury_orphans(config)
    serve(
        *deployments(config, overrides=overrides, experiment=experiment, market_url=market_url),
        pause_on_shutdown=False,
        print_starting_message=False,
    )


def bury_orphans(config: Config) -> list[str]:
    """Set Crashed what an earlier server process left behind, so that it blocks nothing; return the runs' names.

    A deployed run that is Pending had no process yet, or one that died; a Running one is dead if its lease is free.
    """
    pending = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=pending))
        orphans = [run for run in runs if run.deployment_id is not None]
        for run in orphans:
            client.set_flow_run_state(run.id, Crashed(message="the process that served it died"), force=True)
        buried = [run.name for run in orphans]
        for name in LEASES:
            with suppress(BusyError), lease(config, name, doing="oihedge serve, starting"):
                buried += corridor.bury(client, corridor.lease_tag(config, name))
    return buried
