"""The archives have Binance Vision's layout, formats and stamps, and hold the market's own rows."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oihedge.core.errors import ConfigError
from oihedge.simulator.archive import MARK, write_archives
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.settings import Simulator

METRICS = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)
KLINES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def opening(simulator: Simulator, origin: str) -> EmbeddedMarket:
    """The same market, begun at another day: a late date without the years before it."""
    return EmbeddedMarket(simulator.model_copy(update={"origin": at(origin)}))


def lines(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        assert name == f"{path.stem}.csv"
        return archive.read(name).decode().splitlines()


@pytest.fixture(scope="module")
def january(market: EmbeddedMarket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    write_archives(market, folder, start=market.origin, end=at("2024-02-03T11:20"))
    return folder


def test_the_layout_is_binance_vision_s(january: Path) -> None:
    found = sorted(path.relative_to(january).as_posix() for path in january.rglob("*BTCUSDT*") if path.is_file())
    days = [f"2024-01-{day:02d}" for day in range(1, 32)] + ["2024-02-01", "2024-02-02"]
    zips = [f"futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-{day}.zip" for day in days]
    zips.append("futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-01.zip")
    for place in ("futures/um", "spot"):
        zips.append(f"{place}/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip")
        zips += [f"{place}/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-02-0{day}.zip" for day in (1, 2)]
    assert found == sorted([*zips, *(f"{name}.CHECKSUM" for name in zips)])


def test_every_zip_has_its_sha256sum_beside_it(january: Path) -> None:
    for path in january.rglob("*.zip"):
        want = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        assert path.with_name(path.name + ".CHECKSUM").read_text() == want


def test_metrics_are_the_snapshots_of_the_day(january: Path, market: EmbeddedMarket) -> None:
    head, *rows = lines(january / "futures/um/daily/metrics/ETHUSDT/ETHUSDT-metrics-2024-01-20.zip")
    assert head == METRICS
    assert (len(rows), rows[0][:19], rows[-1][:19]) == (288, "2024-01-20 00:05:00", "2024-01-21 00:00:00")
    want = market.open_interest("ETH", "binanceusdm", at("2024-01-20T00:05"), at("2024-01-21"), "5m")
    cells = [row.split(",") for row in rows]
    assert [float(row[2]) for row in cells] == want["oi_base"].to_list()
    assert [float(row[3]) for row in cells] == want["oi_usd"].to_list()
    assert all(row[1] == "ETHUSDT" and all(float(cell) > 0 for cell in row[4:]) for row in cells)


def test_metrics_name_the_start_of_their_5_minutes_since_2026_06_25(simulator: Simulator, tmp_path: Path) -> None:
    late = opening(simulator, "2026-06-24")
    write_archives(late, tmp_path, start=late.origin, end=at("2026-06-26"))
    folder = tmp_path / "futures/um/daily/metrics/BTCUSDT"
    before = lines(folder / "BTCUSDT-metrics-2026-06-24.zip")[1:]
    since = lines(folder / "BTCUSDT-metrics-2026-06-25.zip")[1:]
    assert (before[0][:19], before[-1][:19]) == ("2026-06-24 00:05:00", "2026-06-25 00:00:00")
    assert (since[0][:19], since[-1][:19]) == ("2026-06-25 00:00:00", "2026-06-25 23:55:00")
    snapshot = late.open_interest("BTC", "binanceusdm", at("2026-06-25T00:05"), at("2026-06-25T00:05"), "5m")
    assert float(since[0].split(",")[2]) == snapshot["oi_base"][0]


def test_perp_klines_have_a_header_and_milliseconds(january: Path, market: EmbeddedMarket) -> None:
    head, *rows = lines(january / "futures/um/monthly/klines/NEARUSDT/1h/NEARUSDT-1h-2024-01.zip")
    assert head == KLINES
    cells = [[float(cell) for cell in row.split(",")] for row in rows]
    want = market.bars("NEAR", "binanceusdm", "perp", at("2024-01-01"), at("2024-02-01"))
    assert [row[0] for row in cells] == [ts.timestamp() * 1000 for ts in want["ts"]]
    assert all(row[6] - row[0] == 3_599_999 for row in cells)
    assert [tuple(row[1:6]) for row in cells] == want.select("open", "high", "low", "close", "volume").rows()


@pytest.mark.parametrize(("origin", "unit"), [("2024-12-01", 1_000), ("2025-01-01", 1_000_000)])
def test_spot_klines_have_no_header_and_microseconds_since_2025(
    simulator: Simulator, tmp_path: Path, origin: str, unit: int
) -> None:
    some = opening(simulator, origin)
    write_archives(some, tmp_path, start=some.origin, end=some.origin + timedelta(days=1))
    rows = lines(tmp_path / f"spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-{origin}.zip")
    first = rows[0].split(",")
    assert len(rows) == 24
    assert len(first) == 12
    assert int(first[0]) == int(some.origin.timestamp()) * unit
    assert int(first[6]) - int(first[0]) == 3600 * unit - 1


def test_funding_rates_have_their_interval(january: Path, market: EmbeddedMarket) -> None:
    head, *rows = lines(january / "futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-01.zip")
    assert head == "calc_time,funding_interval_hours,last_funding_rate"
    want = market.funding("BTC", "binanceusdm", at("2024-01-01"), at("2024-01-31T23:59"))
    cells = [row.split(",") for row in rows]
    assert [int(row[0]) for row in cells] == [int(ts.timestamp() * 1000) for ts in want["ts"]]
    assert [float(row[2]) for row in cells] == want["rate"].to_list()
    assert {row[1] for row in cells} == {"8"}


def test_writing_again_changes_no_file(january: Path, market: EmbeddedMarket) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in january.rglob("*.zip")}
    paths = write_archives(market, january, start=market.origin, end=at("2024-02-03T11:20"))
    assert set(paths) == set(before)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in january.rglob("*.zip")} == before


def test_another_market_of_the_same_settings_writes_the_same_bytes(
    january: Path, simulator: Simulator, tmp_path: Path
) -> None:
    again = EmbeddedMarket(simulator)
    for path in write_archives(again, tmp_path, start=at("2024-01-15"), end=at("2024-01-17")):
        twin = january / path.relative_to(tmp_path)
        assert not twin.exists() or twin.read_bytes() == path.read_bytes()


def test_a_damaged_or_missing_file_is_written_again(simulator: Simulator, tmp_path: Path) -> None:
    market, end = EmbeddedMarket(simulator), at("2024-01-03")
    paths = write_archives(market, tmp_path, start=market.origin, end=end)
    right = {path: path.read_bytes() for path in paths}
    paths[0].write_bytes(b"half a file")
    paths[1].unlink()
    paths[2].with_name(paths[2].name + ".CHECKSUM").unlink()
    write_archives(market, tmp_path, start=market.origin, end=end)
    assert {path: path.read_bytes() for path in paths} == right


def test_files_of_another_market_are_replaced(simulator: Simulator, tmp_path: Path) -> None:
    other = EmbeddedMarket(simulator.model_copy(update={"seed": 5}))
    end = at("2024-01-02")
    write_archives(other, tmp_path, start=other.origin, end=end)
    theirs = {path: path.read_bytes() for path in tmp_path.rglob("*.zip")}
    for path in write_archives(EmbeddedMarket(simulator), tmp_path, start=other.origin, end=end):
        assert path.read_bytes() != theirs[path]


def test_the_folder_says_that_its_files_are_simulated(january: Path) -> None:
    assert '"simulated": true' in (january / MARK).read_text()


def test_nothing_at_or_after_the_end_is_written(january: Path) -> None:
    last = at("2024-02-03T11:20").timestamp() * 1000
    for path in january.rglob("*USDT-1h-*.zip"):
        assert all(int(row.split(",")[6]) <= last for row in lines(path) if row[0].isdigit())


def test_progress_is_told_file_by_file(market: EmbeddedMarket, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    paths = write_archives(
        market,
        tmp_path,
        start=at("2024-01-05"),
        end=at("2024-01-07"),
        progress=lambda done, total, what: told.append((done, total, what)),
    )
    assert [done for done, _, _ in told] == list(range(1, len(paths) + 1))
    assert {total for _, total, _ in told} == {len(paths)}


def test_an_empty_window_is_refused(market: EmbeddedMarket, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="window is empty"):
        write_archives(market, tmp_path, start=at("2024-02-01"), end=at("2024-02-01"))


def test_a_folder_that_cannot_be_written_is_named(market: EmbeddedMarket, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="taken"):
        write_archives(market, tmp_path / "taken", start=at("2024-01-05"), end=at("2024-01-07"))
