"""Data Docs: pages that load nothing, run nothing and show nobody's text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import unquote

import polars as pl
import pytest

from oihedge.quality.docs import build

AS_OF = datetime(2025, 1, 2, 11, 25, tzinfo=UTC)  # a minute that reads like no offset from UTC
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def site(tmp_path_factory, snapshots, limits):
    folder = tmp_path_factory.mktemp("docs") / "quality_docs"
    folder.mkdir()
    (folder / "old.html").write_text("what an earlier run left")
    rows = snapshots(100, -1).with_columns(symbol=pl.lit(HOSTILE), unit_source=pl.lit(HOSTILE))
    index = build([("open_interest", rows), ("events", pl.DataFrame())], limits, folder, as_of=AS_OF)
    return index, {path: path.read_text() for path in folder.rglob("*.html")}


def test_the_page_to_open_links_every_suite_and_every_result(site):
    index, pages = site
    links = re.findall(r'href="([^"]+)"', pages[index])
    assert len(links) == 3, "two suites, and one result: a table without rows has none"
    assert all((index.parent / unquote(link)).is_file() for link in links)
    assert "<td>2</td>" in pages[index]


def test_nothing_is_loaded_from_elsewhere_and_no_script_may_run(site):
    for page in site[1].values():
        assert "<script" not in page.lower()
        assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
        assert "default-src 'none'" in page


def test_what_a_venue_sent_is_on_no_page(site):
    assert not any("alert(1)" in page for page in site[1].values())
    assert any("oi_base" in page and "Failed" in page for page in site[1].values()), "that it is wrong is told"


def test_pages_of_an_earlier_run_are_gone(site):
    index, pages = site
    assert index.parent / "old.html" not in pages
    assert [path.name for path in index.parent.parent.iterdir()] == ["quality_docs"]
