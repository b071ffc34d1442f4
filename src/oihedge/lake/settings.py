"""Settings of lake/, filled from conf/lake/."""

from __future__ import annotations

from pathlib import Path

from oihedge.core.settings import Settings


class Lake(Settings):
    """Where the Delta tables are, relative to the home folder."""

    root: Path
