"""Settings of lake/, filled from conf/lake/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import model_validator

from oihedge.core.settings import Count, Positive, Settings

REMOTE = "s3://"
_BUCKET_AND_PREFIX = re.compile(r"s3://[a-z0-9][a-z0-9.-]+(/[\w.=-]+)*/?")
_ENDPOINT = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w./-]*)?")


class S3(Settings):
    """How an S3 store is reached. Its credentials come from the environment alone (AWS_ACCESS_KEY_ID and the like)."""

    endpoint: str | None = None
    """http(s)://host[:port] of a store that speaks S3; None means AWS."""
    region: str
    allow_http: bool = False
    """Whether an endpoint without TLS is accepted."""

    @model_validator(mode="after")
    def _plain(self) -> Self:
        # Errors here never repeat the value: what does not fit may hold a password.
        if self.endpoint is not None:
            if not _ENDPOINT.fullmatch(self.endpoint):
                raise ValueError("endpoint must be http(s)://host[:port], without user, password or query")
            if self.endpoint.startswith("http://") and not self.allow_http:
                raise ValueError("endpoint is http://, which allow_http: true must permit")
        return self


class Lake(Settings):
    """Where the Delta tables are, how writers share them and how long old versions are kept."""

    root: str
    """A folder, relative to the home folder, or s3://bucket/prefix."""
    lock_timeout_s: Positive = 120.0
    """How long an append waits for other processes that are appending to the same table."""
    compact_after_files: Count = 64
    """An append that leaves more small data files than this merges them; old versions stay readable."""
    keep_days: Count = 90
    """`oihedge maintain` removes no file of a version that was the newest, or that a decision or model in service
    refers to, within this many days."""
    s3: S3 | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if "://" in self.root:
            if not _BUCKET_AND_PREFIX.fullmatch(self.root):
                raise ValueError("root must be a folder or s3://bucket/prefix, without user, password or query")
            if self.s3 is None:
                raise ValueError("root on S3 needs the store's settings: lake=s3 (conf/lake/s3.yaml)")
        return self

    @property
    def remote(self) -> bool:
        """Whether the lake is on S3."""
        return self.root.startswith(REMOTE)

    def place(self, home: Path) -> Path | str:
        """Return the root as the lake takes it: a folder under `home`, or the s3:// address as it is."""
        return self.root.rstrip("/") if self.remote else home / self.root
