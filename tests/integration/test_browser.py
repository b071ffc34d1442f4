"""`oihedge up` in a real headless browser: the runs, tables, figures and models of a cycle are there to look at."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
OIHEDGE = (sys.executable, "-c", "import sys; from oihedge.cli import main; sys.exit(main())")
WAIT_MS = 60_000

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, small_experiment: Path) -> Path:
    """A home in which one small cycle has run."""
    folder = tmp_path_factory.mktemp("home")
    subprocess.run([*OIHEDGE, "cycle", "-e", str(small_experiment), "--home", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def pages(home: Path) -> Iterator[dict[str, str]]:
    """The addresses that `oihedge up` prints; SIGTERM at the end stops it and both servers."""
    with subprocess.Popen([*OIHEDGE, "up", "--json", "--home", str(home)], stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = up.stdout.readline()
            assert line, "oihedge up ended early"
            text += line
        yield json.loads(text)
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A page whose last state is kept as a screenshot beside the test's other files."""
    opened = browser.new_page(viewport={"width": 1500, "height": 1800})
    opened.set_default_timeout(WAIT_MS)
    yield opened
    opened.screenshot(path=tmp_path / "last.png")
    opened.close()


def target(page: Any, link: Any) -> str:
    """Where a link leads. Followed by address: MLflow's pages cover themselves for a while with what a click meets."""
    return str(link.first.evaluate("link => link.href"))


@pytest.mark.parametrize("flow", ["cycle", "ingest", "validate", "retrain", "promote", "hedge"])
def test_prefect_shows_the_run_of_each_flow(flow: str, pages: dict[str, str], page: Any) -> None:
    page.goto(f"{pages['prefect']}/runs")
    page.get_by_text(f"{flow} 2025-07-01T00:05").first.wait_for()
    page.get_by_text("Completed").first.wait_for()


@pytest.mark.parametrize(
    ("key", "inside"),
    [
        ("rows-by-venue", "hyperliquid"),
        ("gates", "beats_persistence"),
        ("targets", "binanceusdm"),
        ("strategies", "static_twin_tradable"),
        ("quality", "open_interest"),
    ],
)
def test_prefect_shows_a_flows_tables_under_the_markets_label(
    key: str, inside: str, pages: dict[str, str], page: Any
) -> None:
    page.goto(f"{pages['prefect']}/artifacts/key/{key}")
    page.get_by_text("simulated market").first.wait_for()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    page.get_by_text(inside).first.wait_for()


def test_mlflow_shows_the_run_with_its_figures(pages: dict[str, str], page: Any) -> None:
    page.goto(f"{pages['mlflow']}/#/experiments")
    experiment = target(page, page.get_by_role("link", name="oihedge", exact=True))
    page.goto(f"{experiment.partition('?')[0]}/runs")
    run = target(page, page.get_by_role("link", name="persistence 2025-07"))
    page.goto(run)
    page.get_by_text("oos_days").first.wait_for()
    page.goto(f"{run.partition('?')[0]}/artifacts/figures/strategies.png")
    page.wait_for_function("() => [...document.images].some(image => image.naturalWidth > 400)")


def test_mlflow_shows_the_registered_version_as_challenger(pages: dict[str, str], page: Any) -> None:
    page.goto(f"{pages['mlflow']}/#/models/oihedge")
    page.get_by_text("Version 1").first.wait_for()
    page.get_by_text("challenger").first.wait_for()


def test_the_report_opens_offline_with_its_figures(home: Path, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((home / "reports" / "latest.html").as_uri())
    assert page.locator("img").count() >= 4
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert "simulated market" in page.inner_text("body")
