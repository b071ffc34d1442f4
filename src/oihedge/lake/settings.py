"""Settings of lake/, filled from conf/lake/."""

from __future__ import annotations

from pathlib import Path

from oihedge.core.settings import Count, Positive, Settings


class Lake(Settings):
    """Where the Delta tables are, relative to the home folder, and how writers share them."""

    root: Path
    lock_timeout_s: Positive = 120.0
    """How long an append waits for another process that is appending to the same table."""
    compact_after_files: Count = 64
    """An append that leaves more data files than this merges them; old versions stay readable."""
