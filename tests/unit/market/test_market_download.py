"""Downloads of archive files over real HTTP: verified, resumed, replaced ones noticed, and every fault one line."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes.market_settings import PERPS, SPOTS, market
from fakes.web_service import Reply, WebService

from oihedge.config import load
from oihedge.core.clock import FixedClock
from oihedge.core.errors import ConfigError, DataError, VenueError
from oihedge.market.archive import read_archives
from oihedge.market.download import Downloaded, download
from oihedge.market.inputs.settings import Vision
from oihedge.simulator.archive import write_archives
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer

MARCH = datetime(2025, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ONE = PERPS[0].model_copy(update={"symbols": {"BTC": "BTC/USDT:USDT"}})
MONTH = "futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-03.zip"
DAILY = "futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-03-{:02d}.zip"
PATIENCE = {"timeout_s": 10.0, "attempts": 2, "backoff_s": 0.01, "max_backoff_s": 0.02, "max_pause_s": 1.0, "max_mb": 1}


def zipped(*hours: int, price: float = 100.0, name: str = MONTH) -> bytes:
    at = [int((MARCH + timedelta(hours=h)).timestamp() * 1000) for h in hours]
    text = "".join(f"{ms},{price},{price + 2},{price - 2},{price + 1},7,{ms + 3599999},0,1,0,0,0\n" for ms in at)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{Path(name).stem}.csv", text)
    return out.getvalue()


def noted(name: str, content: bytes) -> dict[str, bytes]:
    """A file and its checksum as the source serves them."""
    note = f"{hashlib.sha256(content).hexdigest()}  {name.rsplit('/', 1)[-1]}\n"
    return {f"/{name}": content, f"/{name}.CHECKSUM": note.encode()}


def daily(day: int, *hours: int) -> dict[str, bytes]:
    name = DAILY.format(day)
    return noted(name, zipped(*hours, name=name))


def settings(url: str):
    return market(ONE, vision=Vision.model_validate({"url": url, "concurrency": 2, "patience": PATIENCE}))


def brought(folder: Path, service: WebService, days: int = 31, **more) -> Downloaded:
    span = {"start": MARCH, "end": MARCH + days * DAY, "kinds": ("klines",), **more}
    return download(folder, settings(service.url), **span)


def bars(folder: Path, days: int = 31):
    return read_archives(folder, market(ONE), start=MARCH, end=MARCH + days * DAY, kinds=("klines",))["ohlcv"]


def test_a_month_comes_with_its_hash_beside_it_and_is_not_fetched_again(tmp_path: Path) -> None:
    with WebService(paths=noted(MONTH, zipped(0, 1))) as service:
        first = brought(tmp_path, service)
        again = brought(tmp_path, service)
    assert first == Downloaded(fetched=[MONTH])
    assert again == Downloaded(kept=[MONTH])
    assert service.asked.count(f"/{MONTH}") == 1
    assert (tmp_path / f"{MONTH}.CHECKSUM").read_bytes() == service.paths[f"/{MONTH}.CHECKSUM"]
    assert bars(tmp_path).height == 2


def test_a_month_that_is_not_published_yet_comes_by_days(tmp_path: Path) -> None:
    files = daily(1, 0, 1) | daily(3, 48)
    with WebService(paths=files) as service:
        done = brought(tmp_path, service, days=3)
    assert done.fetched == [DAILY.format(1), DAILY.format(3)]
    assert done.missing == [DAILY.format(2)]
    assert bars(tmp_path).height == 3


def test_a_run_that_was_killed_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    files = daily(1, 0) | daily(2, 24) | daily(3, 48)
    with WebService(paths=files) as service:
        brought(tmp_path, service, days=3)
        (tmp_path / DAILY.format(1)).unlink()
        (tmp_path / f"{DAILY.format(2)}.CHECKSUM").unlink()
        half = tmp_path / DAILY.format(3)
        half.with_name(f".{half.name}.1").write_bytes(b"half")
        service.requests.clear()
        done = brought(tmp_path, service, days=3)
    assert done == Downloaded(fetched=[DAILY.format(1)], kept=[DAILY.format(2), DAILY.format(3)])
    assert [path for path in service.asked if path.endswith(".zip")] == [f"/{DAILY.format(1)}"]
    assert bars(tmp_path, 3).height == 3


def test_a_file_replaced_at_the_source_is_noticed_and_the_older_one_kept(tmp_path: Path) -> None:
    old, new = zipped(0, price=100.0), zipped(0, price=101.0)
    with WebService(paths=noted(MONTH, old)) as service:
        brought(tmp_path, service)
        assert bars(tmp_path)["open"].to_list() == [100.0]
        service.paths = noted(MONTH, new)
        done = brought(tmp_path, service)
    assert done == Downloaded(replaced=[MONTH])
    assert bars(tmp_path)["open"].to_list() == [101.0]
    (kept,) = (tmp_path / MONTH).parent.glob("*.replaced-*")
    assert kept.read_bytes() == old
    assert hashlib.sha256(old).hexdigest().startswith(kept.name.rsplit("-", 1)[-1])


def test_a_local_file_that_was_damaged_is_mended(tmp_path: Path) -> None:
    with WebService(paths=noted(MONTH, zipped(0))) as service:
        brought(tmp_path, service)
        (tmp_path / MONTH).write_bytes(b"damaged")
        done = brought(tmp_path, service)
    assert done.replaced == [MONTH]
    assert bars(tmp_path).height == 1


@pytest.mark.parametrize(
    ("paths", "error", "says"),
    [
        ({f"/{MONTH}": b"other", f"/{MONTH}.CHECKSUM": b"0" * 64}, DataError, "is not what its checksum tells"),
        ({f"/{MONTH}.CHECKSUM": b"0" * 64}, DataError, "got no file"),
        ({f"/{MONTH}": b"x", f"/{MONTH}.CHECKSUM": b"<html>"}, DataError, "tells no sha256"),
        ({f"/{MONTH}": b"x", f"/{MONTH}.CHECKSUM": b""}, DataError, "tells no sha256"),
        (noted(MONTH, b"x" * 2**21), VenueError, "sends more than 1 MB"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_never_gets_its_name(tmp_path: Path, paths, error, says: str) -> None:
    with WebService(paths=paths) as service, pytest.raises(error, match=says) as caught:
        brought(tmp_path, service)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.zip"))


def test_a_file_replaced_between_the_two_requests_is_asked_for_again(tmp_path: Path) -> None:
    new = zipped(0)
    note = Reply(noted(MONTH, new)[f"/{MONTH}.CHECKSUM"])
    replies = [Reply(b"", 404), Reply(b"0" * 64), Reply(new), note, Reply(new)]
    with WebService(*replies) as service:
        assert brought(tmp_path, service).fetched == [MONTH]


def test_a_source_that_fails_now_and_then_is_asked_again(tmp_path: Path) -> None:
    new = zipped(0)
    note = Reply(noted(MONTH, new)[f"/{MONTH}.CHECKSUM"])
    replies = [Reply(b"", 503), Reply(b"", 404), note, Reply(new, cut=True), Reply(new)]
    with WebService(*replies) as service:
        assert brought(tmp_path, service).fetched == [MONTH]


@pytest.mark.parametrize("status", [403, 500])
def test_a_source_that_refuses_or_is_down_is_one_line(tmp_path: Path, status: int) -> None:
    with WebService(Reply(b"<html>", status)) as service, pytest.raises(VenueError, match=str(status)) as caught:
        brought(tmp_path, service)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"end": MARCH}, "span is empty"),
        ({"kinds": ("candles",)}, "unknown kind of archive"),
        ({"kinds": ()}, "unknown kind of archive"),
        ({"timeframe": "7m"}, "unknown timeframe"),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_is_asked(tmp_path: Path, more, says: str) -> None:
    with WebService(Reply(b"")) as service, pytest.raises(ConfigError, match=says):
        brought(tmp_path / "new", service, **more)
    assert not service.requests
    assert not (tmp_path / "new").exists()


def test_without_a_binance_venue_there_is_nothing_to_download(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to download"):
        download(tmp_path, market(PERPS[1]), start=MARCH, end=MARCH + DAY)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with WebService(paths={}) as service, pytest.raises(ConfigError, match="cannot write archives"):
        brought(tmp_path / "file", service)


def test_every_kind_and_timeframe_has_the_buckets_path(tmp_path: Path) -> None:
    with WebService(paths={}) as service:
        told = market(ONE, SPOTS[0].model_copy(update={"symbols": {"BTC": "BTC/USDT"}}),
                      vision=Vision.model_validate({"url": service.url, "patience": PATIENCE}))  # fmt: skip
        kinds = ("metrics", "klines", "markPriceKlines", "indexPriceKlines", "premiumIndexKlines", "fundingRate")
        done = download(tmp_path, told, start=MARCH, end=MARCH + DAY, kinds=kinds, timeframe="1m")
    assert done.missing == [
        "futures/um/daily/indexPriceKlines/BTCUSDT/1m/BTCUSDT-1m-2025-03-01.zip",
        "futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-03-01.zip",
        "futures/um/daily/markPriceKlines/BTCUSDT/1m/BTCUSDT-1m-2025-03-01.zip",
        "futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2025-02-28.zip",
        "futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2025-03-01.zip",
        "futures/um/daily/premiumIndexKlines/BTCUSDT/1m/BTCUSDT-1m-2025-03-01.zip",
        "futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-03.zip",
        "spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-03-01.zip",
    ]
    assert "/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-03.zip.CHECKSUM" in service.asked


def test_the_loopback_server_shows_the_embedded_markets_archive(tmp_path: Path) -> None:
    """Downloaded and read, it gives the rows of the folder it was served from, and says that it is simulated."""
    simulated = EmbeddedMarket(load().simulator)
    start, end = simulated.origin, simulated.origin + 4 * DAY
    write_archives(simulated, tmp_path / "there", start=start, end=end)
    told = market(PERPS[0], SPOTS[0])
    with LoopbackServer(simulated, FixedClock(end), archive=tmp_path / "there") as server:
        download(tmp_path / "here", told, start=start, end=end, base_url=server.url)
    here, there = (read_archives(tmp_path / where, told, start=start, end=end) for where in ("here", "there"))
    assert {name: rows.height for name, rows in here.items()} == {
        "ohlcv": 4 * 96, "open_interest": 190, "funding": 0, "long_short": 3 * 190,
    }  # fmt: skip
    assert all(here[name].equals(there[name]) for name in here)
    assert (tmp_path / "here" / "SIMULATED.json").is_file()


def test_the_loopback_server_shows_nothing_outside_its_archive(tmp_path: Path) -> None:
    (tmp_path / "secret.zip").write_bytes(b"x")
    (tmp_path / "there").mkdir()
    simulated = EmbeddedMarket(load().simulator)
    with LoopbackServer(simulated, FixedClock(simulated.origin), archive=tmp_path / "there") as server:
        import httpx

        for path in ("../secret.zip", "%2e%2e/secret.zip", "..%2fsecret.zip"):
            assert httpx.get(f"{server.url}/vision/{path}", trust_env=False).status_code == 404
