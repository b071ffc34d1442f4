"""YAML of a user's own without aliases, which a few short lines of text can expand to more than the memory holds."""

from __future__ import annotations

from typing import Any

import yaml


class _Plain(yaml.SafeLoader):
    """Refuses an anchor where it stands: without one there is nothing to repeat."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"anchors and aliases are not taken, got {event.anchor[:40]!r}; write the value out",
                problem_mark=event.start_mark,
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def plain_yaml(text: str) -> Any:
    """Return what one YAML document of plain values holds.

    Raises:
        yaml.YAMLError: if it is no such document, or names an anchor or alias.
        RecursionError: if it is nested too deep.
    """
    return yaml.load(text, _Plain)  # noqa: S506 - a SafeLoader
