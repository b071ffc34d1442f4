"""How runs are called in Prefect's pages: the flow and its instant."""

from __future__ import annotations

from prefect import runtime


def run_name() -> str:
    """Name a run after its flow and the instant it was asked for, else the one it was scheduled for."""
    as_of = runtime.flow_run.parameters.get("as_of") or runtime.flow_run.scheduled_start_time
    stamp = as_of if isinstance(as_of, str) else f"{as_of:%Y-%m-%dT%H:%M}"
    return f"{runtime.flow_run.flow_name} {stamp[:16]}"
