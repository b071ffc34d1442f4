"""One line an epoch, for whoever watches."""

from __future__ import annotations

from collections.abc import Mapping

from oihedge.core.protocols import EpochReporter, Progress


def told(progress: Progress, what: str, total: int, then: EpochReporter) -> EpochReporter:
    """Return an EpochReporter that tells `progress` of each of at most `total` epochs of `what`, and then `then`."""
    best = float("inf")

    def report(epoch: int, metrics: Mapping[str, float]) -> None:
        nonlocal best
        best = min(best, metrics.get("val_loss", best))
        losses = "".join(f" {name} {value:.4f}" for name, value in metrics.items())
        progress(epoch + 1, total, f"{what}: epoch {epoch + 1}/{total}{losses} best {best:.4f}", lane="training")
        then(epoch, metrics)

    return report
