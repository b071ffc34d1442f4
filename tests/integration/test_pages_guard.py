"""Prefect's server answers its own pages and clients, and nobody else's."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from oihedge.servers.prefect import prefect_server

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("home")).running() as address:
        yield address


def asked(url: str, path: str, body: object = None, **headers: str) -> int:
    """The status of one request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def flows(url: str) -> int:
    request = urllib.request.Request(url + "/api/flows/count", b"{}", {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return int(answer.read())


def test_its_own_pages_and_plain_clients_are_answered(url: str) -> None:
    assert asked(url, "/api/health") == 200
    assert asked(url, "/api/health", Origin=url) == 200
    assert asked(url, "/api/flows/", {"name": "mine"}, Origin=url.replace("127.0.0.1", "localhost")) == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "evil.example"}, 400),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 400),
    ],
)
def test_a_foreign_page_changes_and_reads_nothing(url: str, headers: dict[str, str], status: int) -> None:
    before = flows(url)
    assert asked(url, "/api/flows/", {"name": "evil"}, **headers) == status
    assert asked(url, "/api/flows/count", {}, **headers) == status
    assert flows(url) == before


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    command = prefect_server(tmp_path).command(1234)
    assert command[command.index("--host") + 1] == "127.0.0.1"
