"""Binance Vision archives: verified, in both styles, on the hour, at the instant a live run would have known."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes.market_settings import PERPS, SPOTS, market

from oihedge.core.errors import ConfigError, DataError
from oihedge.core.tables import conform, table
from oihedge.market.archive import read_archives

METRICS = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio\n"
)
KLINES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
FUNDING = "calc_time,funding_interval_hours,last_funding_rate\n"
DAY = datetime(2025, 3, 1, tzinfo=UTC)
SETTINGS = market(PERPS[0], SPOTS[0])
METRICS_PATH = "futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-{}.zip"
KLINES_PATH = "futures/um/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-03.zip"


def put(root: Path, name: str, text: str, checksum: str | None = "right", inner: str | None = None) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(inner or f"{path.stem}.csv", text)
    if checksum is not None:
        sha = hashlib.sha256(path.read_bytes()).hexdigest() if checksum == "right" else checksum
        path.with_name(path.name + ".CHECKSUM").write_text(f"{sha}  {path.name}\n")
    return path


def metrics_day(day: datetime, first_minute: int, *, value: str = "{}") -> str:
    """Rows every 5 minutes from `first_minute`; the value tells the label's minute of the day."""
    stamps = [(day + timedelta(minutes=m), m) for m in range(first_minute, first_minute + 1440, 5)]
    return "".join(f"{at:%Y-%m-%d %H:%M:%S},BTCUSDT,{value.format(m)}.5,{m}00,1,1,1,1\n" for at, m in stamps)


def kline(at: datetime, price: float, scale: int = 1000, seconds: int = 3600) -> str:
    opened = int(at.timestamp() * scale)
    return f"{opened},{price},{price + 2},{price - 2},{price + 1},7,{opened + seconds * scale - 1},0,1,0,0,0\n"


def read(root: Path, start: datetime = DAY, days: int = 40, **more):
    return read_archives(root, SETTINGS, start=start, end=start + timedelta(days=days), **more)


@pytest.mark.parametrize("prefix", ["", "data/"])
@pytest.mark.parametrize("header", [METRICS, ""])
def test_metrics_become_hourly_snapshots_known_after_the_venues_delay(tmp_path, header, prefix):
    put(tmp_path, prefix + METRICS_PATH.format("2025-03-01"), header + metrics_day(DAY, 5))
    rows = read(tmp_path)["open_interest"]
    assert rows.height == 24
    first = rows.row(0, named=True)
    assert (first["ts"], first["oi_base"], first["oi_usd"]) == (DAY + timedelta(hours=1), 60.5, 6000.0)
    assert first["available_at"] == first["ts"] + timedelta(seconds=5)
    assert (first["venue"], first["symbol"], first["asset"]) == ("binanceusdm", "BTC/USDT:USDT", "BTC")
    assert conform(rows, table("open_interest"), stamps=False).equals(rows)


def test_since_the_labels_moved_a_row_is_the_snapshot_five_minutes_after_its_label(tmp_path):
    before, after = datetime(2026, 6, 24, tzinfo=UTC), datetime(2026, 6, 25, tzinfo=UTC)
    put(tmp_path, METRICS_PATH.format("2026-06-24"), METRICS + metrics_day(before, 5))
    put(tmp_path, METRICS_PATH.format("2026-06-25"), METRICS + metrics_day(after, 0))
    rows = read(tmp_path, before, 3)["open_interest"]
    assert rows["ts"].to_list() == [before + timedelta(hours=h) for h in range(1, 49)]
    by_ts = dict(rows.select("ts", "oi_base").rows())
    assert by_ts[after] == 1440.5  # the older file's last row, not the newer file's row of the same label
    assert by_ts[after + timedelta(hours=1)] == 55.5
    assert by_ts[after + timedelta(days=1)] == 1435.5


def test_blank_and_repeated_metrics_rows(tmp_path):
    text = metrics_day(DAY, 5).replace("01:00:00,BTCUSDT,60.5", "01:00:00,BTCUSDT,")
    text += "2025-03-01 02:00:00,BTCUSDT,777,1,1,1,1,1\n\n"
    put(tmp_path, METRICS_PATH.format("2025-03-01"), METRICS + text)
    rows = read(tmp_path)["open_interest"]
    assert rows["ts"].min() == DAY + timedelta(hours=2)
    assert rows["oi_base"][0] == 777.0
    assert rows.height == 23


@pytest.mark.parametrize(("header", "scale"), [(KLINES, 1000), ("", 1000), ("", 10**6)])
def test_klines_in_ms_or_us_with_or_without_a_header(tmp_path, header, scale):
    rows_text = "".join(kline(DAY + timedelta(hours=h), 100 + h, scale) for h in range(5))
    put(tmp_path, KLINES_PATH, header + rows_text)
    rows = read(tmp_path)["ohlcv"]
    assert rows["ts"].to_list() == [DAY + timedelta(hours=h) for h in range(5)]
    assert rows.row(0, named=True)["close"] == 101.0
    assert (rows["available_at"] - rows["ts"]).unique().to_list() == [timedelta(hours=1, seconds=5)]


def test_a_file_may_change_from_ms_to_us_in_the_middle(tmp_path):
    text = kline(DAY, 100) + kline(DAY + timedelta(hours=1), 101, 10**6)
    put(tmp_path, "spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-03.zip", text)
    rows = read(tmp_path)["ohlcv"]
    assert rows["ts"].to_list() == [DAY, DAY + timedelta(hours=1)]
    assert set(rows["kind"]) == {"spot"}
    assert set(rows["venue"]) == {"binance"}


KIND_PATH = "futures/um/{}/{}/BTCUSDT/{}/BTCUSDT-{}-2025-03{}.zip"


@pytest.mark.parametrize(
    ("kind", "row_kind"),
    [("klines", "perp"), ("markPriceKlines", "mark"), ("indexPriceKlines", "index"), ("premiumIndexKlines", "premium")],
)
@pytest.mark.parametrize(("header", "scale"), [(KLINES, 1000), ("", 10**6)])
def test_every_kind_of_bars_is_read_when_asked_for(tmp_path, kind, row_kind, header, scale):
    put(tmp_path, KIND_PATH.format("monthly", kind, "1h", "1h", ""), header + kline(DAY, 100, scale))
    rows = read(tmp_path, kinds=(kind,))["ohlcv"]
    assert rows.select("venue", "symbol", "kind", "timeframe").rows() == [
        ("binanceusdm", "BTC/USDT:USDT", row_kind, "1h")
    ]
    assert rows["volume"].to_list() == [7.0 if kind == "klines" else None]
    assert rows["open"].to_list() == [101.0 if kind == "premiumIndexKlines" else 100.0]
    if kind != "klines":
        with pytest.raises(DataError, match="has no archive file"):
            read(tmp_path)


def test_minute_bars_are_known_a_minute_and_the_delay_after_their_open(tmp_path):
    minutes = "".join(kline(DAY + timedelta(minutes=m), 100 + m, seconds=60) for m in range(3))
    put(tmp_path, KIND_PATH.format("daily", "klines", "1m", "1m", "-01"), minutes)
    put(tmp_path, KLINES_PATH, kline(DAY, 100))
    rows = read(tmp_path, timeframe="1m")["ohlcv"]
    assert rows.select("ts", "timeframe").rows() == [(DAY + timedelta(minutes=m), "1m") for m in range(3)]
    assert (rows["available_at"] - rows["ts"]).unique().to_list() == [timedelta(minutes=1, seconds=5)]
    assert read(tmp_path)["ohlcv"]["timeframe"].to_list() == ["1h"]


def test_the_crowds_ratios_come_with_the_snapshots(tmp_path):
    text = f"{DAY + timedelta(hours=1):%Y-%m-%d %H:%M:%S},BTCUSDT,60,6000,1.1,1.2,1.3,\n"
    put(tmp_path, METRICS_PATH.format("2025-03-01"), METRICS + text)
    rows = read(tmp_path)["long_short"]
    assert dict(rows.select("measure", "ratio").rows()) == {
        "top_accounts": 1.1, "top_positions": 1.2, "accounts": 1.3
    }  # fmt: skip
    assert rows["available_at"].unique().to_list() == [DAY + timedelta(hours=1, seconds=5)]
    assert conform(rows, table("long_short"), stamps=False).equals(rows)


def test_the_ratios_move_with_the_labels_too(tmp_path):
    after = datetime(2026, 6, 25, tzinfo=UTC)
    put(tmp_path, METRICS_PATH.format("2026-06-25"), METRICS + metrics_day(after, 0))
    assert read(tmp_path, after, 2)["long_short"]["ts"].min() == after + timedelta(hours=1)


@pytest.mark.parametrize("more", [{"kinds": ("candles",)}, {"kinds": ()}, {"timeframe": "2h"}])
def test_a_kind_or_timeframe_there_is_none_of_is_refused(tmp_path, more):
    with pytest.raises(ConfigError, match="unknown"):
        read(tmp_path, **more)


def test_monthly_and_daily_files_of_the_same_bars_count_once(tmp_path):
    put(tmp_path, KLINES_PATH, kline(DAY, 100))
    put(tmp_path, "futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-03-01.zip", kline(DAY, 100))
    assert read(tmp_path)["ohlcv"].height == 1


def test_funding_stands_on_its_hour_with_its_own_interval(tmp_path):
    stamp = int(DAY.timestamp() * 1000)
    text = f"{stamp + 7},8,0.0001\n{stamp + 8 * 3600_000 + 3},4,-0.0002\n"
    put(tmp_path, "futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-03.zip", FUNDING + text)
    rows = read(tmp_path)["funding"]
    assert rows.select("ts", "rate", "interval_h").rows() == [
        (DAY, 0.0001, 8.0),
        (DAY + timedelta(hours=8), -0.0002, 4.0),
    ]
    assert rows["available_at"][0] == DAY + timedelta(seconds=5, milliseconds=7)


def test_funding_that_stands_beside_its_hour_is_refused(tmp_path):
    stamp = int(DAY.timestamp() * 1000)
    name = "futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-03.zip"
    put(tmp_path, name, FUNDING + f"{stamp + 60_000},8,0.0001\n{stamp + 8 * 3600_000 - 60_001},8,0.0002\n")
    with pytest.raises(DataError, match="column calc_time; expected a time within a minute of its hour") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(stamp + 8 * 3600_000 - 60_001) in str(caught.value)


@pytest.mark.parametrize(("every", "label"), [("monthly", "2026-06"), ("daily", "2026-06"), ("monthly", "2026-06-01")])
def test_metrics_of_a_month_are_no_archive(tmp_path, every, label):
    text = METRICS + metrics_day(datetime(2026, 6, 25, tzinfo=UTC), 0)
    put(tmp_path, METRICS_PATH.format(label).replace("daily", every), text)
    with pytest.raises(DataError, match="has no archive file"):
        read(tmp_path, datetime(2026, 6, 1, tzinfo=UTC))


def test_only_the_span_and_the_configured_symbols_are_read(tmp_path):
    put(tmp_path, METRICS_PATH.format("2025-03-01"), METRICS + metrics_day(DAY, 5))
    put(tmp_path, METRICS_PATH.format("2025-02-01"), "damaged", checksum="not even read")
    put(tmp_path, METRICS_PATH.replace("BTC", "XRP").format("2025-03-01"), "damaged", checksum=None)
    rows = read_archives(tmp_path, SETTINGS, start=DAY + timedelta(hours=3), end=DAY + timedelta(hours=5))[
        "open_interest"
    ]
    assert rows["ts"].to_list() == [DAY + timedelta(hours=3), DAY + timedelta(hours=4)]


def test_the_midnight_snapshot_comes_from_the_file_of_the_day_before(tmp_path):
    put(tmp_path, METRICS_PATH.format("2025-03-01"), METRICS + metrics_day(DAY, 5))
    rows = read(tmp_path, DAY + timedelta(days=1), 1)["open_interest"]
    assert rows["ts"].to_list() == [DAY + timedelta(days=1)]


GOOD = METRICS + metrics_day(DAY, 5)


@pytest.mark.parametrize(
    ("text", "checksum", "says"),
    [
        (GOOD, None, "has no checksum beside it"),
        (GOOD, "0" * 64, "does not match its checksum"),
        (GOOD, "", "does not match its checksum"),
        (GOOD.replace("sum_open_interest,", "oi,").replace("create_time", "time"), "right", "has other columns"),
        (METRICS + "2025-03-01 01:00:00,BTCUSDT,1\n", "right", "is damaged; expected 8 columns"),
        (GOOD.replace(",60.5,", ",many,"), "right", "column sum_open_interest; expected a number; got 'many'"),
        (GOOD.replace("2025-03-01 01:00:00", "1 March"), "right", "column create_time"),
        (GOOD.replace("2025-03-01 01:00:00", "1740787200"), "right", "column create_time"),
    ],
)
def test_a_bad_archive_is_one_line_that_names_its_file(tmp_path, text, checksum, says):
    put(tmp_path, METRICS_PATH.format("2025-03-02"), GOOD.replace("2025-03-01", "2025-03-02"))
    path = put(tmp_path, METRICS_PATH.format("2025-03-01"), text, checksum)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert path.name in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


FUNDING_PATH = "futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-03.zip"
HOUR = timedelta(hours=1)
TITLES = "sum_open_interest,sum_open_interest_value"
TURNED = METRICS.replace(TITLES, "sum_open_interest_value,sum_open_interest")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (METRICS_PATH.format("2025-03-01"), TURNED + metrics_day(DAY, 5), "has other columns"),
        (KLINES_PATH, KLINES.replace("high,low", "low,high") + kline(DAY, 100), "has other columns"),
        (METRICS_PATH.format("2025-03-01"), GOOD.replace("04:00:00,BTC", "04:00:00,ETH"), "symbol; .* got 'ETHUSDT'"),
        (METRICS_PATH.format("2025-03-01"), METRICS + metrics_day(DAY + HOUR, 5), "create_time; .* the file's name"),
        (METRICS_PATH.format("2025-03-01"), METRICS + metrics_day(DAY - HOUR, 5), "create_time; .* the file's name"),
        (KLINES_PATH, kline(DAY - HOUR, 2200) + kline(DAY, 100), "open_time; .* the file's name"),
        (KLINES_PATH, kline(DAY, 100) + kline(datetime(2025, 4, 1, tzinfo=UTC), 2200), "open_time; .* the file's name"),
        (FUNDING_PATH, FUNDING + f"{int((DAY - 8 * HOUR).timestamp())}000,8,0.0001\n", "calc_time; .* the file's name"),
        (KLINES_PATH, "".join(kline(DAY + h * HOUR, 100, seconds=60) for h in range(5)), "a bar of 1:00:00"),
        (KLINES_PATH, kline(DAY, 100) * 5 + kline(DAY + HOUR, 100, seconds=7200), "a bar of 1:00:00"),
    ],
)
def test_a_file_whose_content_is_not_what_its_name_says_is_refused(tmp_path, name, text, says):
    path = put(tmp_path, name, text)
    with pytest.raises(DataError, match=rf"{path.name}.*{says}") as caught:
        read(tmp_path, kinds=("metrics", "klines", "fundingRate"))
    assert "\n" not in str(caught.value)


def test_a_zip_that_holds_another_file_is_refused(tmp_path):
    put(tmp_path, KLINES_PATH, kline(DAY, 100), inner="ETHUSDT-1m-2024-11.csv")
    with pytest.raises(DataError, match=r"1h-2025-03\.zip holds another file; .* got 'ETHUSDT-1m-2024-11\.csv'"):
        read(tmp_path)


def test_titles_of_columns_that_are_not_read_may_differ(tmp_path):
    put(tmp_path, KLINES_PATH, KLINES.replace("taker_buy_volume", "taker_buy_base_volume") + kline(DAY, 100))
    assert read(tmp_path)["ohlcv"].height == 1


OUTAGE = datetime(2018, 2, 8, tzinfo=UTC)


def test_single_bars_that_an_outage_cut_short_do_not_spoil_their_file(tmp_path):
    begin = datetime(2018, 1, 1, tzinfo=UTC)
    text = "".join(kline(begin + h * HOUR, 100, seconds=14 if h == 3 else 3600) for h in range(24))
    put(tmp_path, "spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2018-01.zip", text)
    put(tmp_path, "spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2018-02-08.zip", kline(OUTAGE, 100, seconds=1694))
    assert read(tmp_path, begin)["ohlcv"].height == 25


def test_old_metrics_that_begin_at_midnight_and_an_empty_file_beside_them_are_read(tmp_path):
    put(tmp_path, METRICS_PATH.format("2025-02-28"), METRICS)
    put(tmp_path, METRICS_PATH.format("2025-03-01"), METRICS + metrics_day(DAY, 0))
    assert read(tmp_path)["open_interest"]["ts"].to_list() == [DAY + h * HOUR for h in range(24)]


def test_bytes_that_are_no_zip_are_named(tmp_path):
    path = put(tmp_path, KLINES_PATH, "")
    path.write_bytes(b"<html>not found</html>")
    path.with_name(path.name + ".CHECKSUM").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match=r"BTCUSDT-1h-2025-03\.zip cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("method", "inner", "damage"),
    [(zipfile.ZIP_LZMA, "BTCUSDT-1h-2025-03.csv", lambda data: data.replace(b"\x5d\x00\x00", b"\xff\xff\xff", 1)),
     (zipfile.ZIP_STORED, "é.csv", lambda data: data.replace("é".encode(), b"\xff\xfe"))],
    ids=["lzma", "name"],
)  # fmt: skip
def test_a_damaged_zip_of_a_matching_checksum_is_named(tmp_path, method, inner, damage):
    path = put(tmp_path, KLINES_PATH, "")
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(inner, kline(DAY, 1.0) * 9)
    path.write_bytes(damage(path.read_bytes()))
    path.with_name(path.name + ".CHECKSUM").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match=r"BTCUSDT-1h-2025-03\.zip cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda root: read(root / "nowhere"), DataError, "is not there"),
        (lambda root: read(root), DataError, r"has no archive file of .* between 2025-03-01 and 2025-04-10"),
        (lambda root: read(root, DAY, 0), ConfigError, "span is empty"),
    ],
)
def test_nothing_to_read_is_said(tmp_path, make, error, says):
    with pytest.raises(error, match=says):
        make(tmp_path)
