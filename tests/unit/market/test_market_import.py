"""Import specs over small files: stamps, zones, units and names."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
import yaml
from fakes.import_specs import BAR_TEXT, BARS, FUNDING, HOUR, INTEREST, PRICE, T0, imported, opens, spec_of

from oihedge.core.errors import ConfigError
from oihedge.market.importing import load_spec, read_import


def test_one_venue_and_one_asset_of_a_users_own_file(tmp_path):
    rows = imported(tmp_path, BARS, BAR_TEXT)
    assert rows["ts"].to_list() == [T0, T0 + HOUR]
    assert rows["available_at"].to_list() == [T0 + HOUR + timedelta(seconds=5), T0 + 2 * HOUR + timedelta(seconds=5)]
    first = rows.row(0, named=True)
    assert (first["symbol"], first["asset"], first["close"], first["volume"]) == ("BTC/USDT:USDT", "BTC", 2.0, None)


@pytest.mark.parametrize(
    ("stamps", "zone"),
    [
        (["2025-01-01 06:00:00", "2025-01-01 07:00:00"], "+06:00"),
        (["2025-01-01T00:00:00Z", "2025-01-01T01:00:00Z"], None),
        (["2025-01-01 01:00:00+01:00", "2025-01-01 02:00:00+01:00"], None),
        (["2025-01-01T00:00:00.012Z", "2025-01-01T01:00:00.007Z"], "UTC"),
        (["2025-01-01 00:00", "2025-01-01 01:00"], "UTC"),
        (["2025-01-01 01:00:00", "2025-01-01 02:00:00"], "Europe/Paris"),
        (["1735689600", "1735693200"], None),
        (["1735689600000", "1735693200000"], None),
        (["1735689600000000", "1735693200000000"], "UTC"),
    ],
)
def test_stamps_of_every_kind_become_the_same_instants(tmp_path, stamps, zone):
    text = "time,o,h,l,c\n" + "".join(f"{stamp},1,3,0.5,2\n" for stamp in stamps)
    assert imported(tmp_path, BARS, text, time_zone=zone)["ts"].to_list() == [T0, T0 + HOUR]


def test_a_stamp_at_the_close_moves_the_bar_not_its_availability(tmp_path):
    at_open = imported(tmp_path, BARS, BAR_TEXT)
    at_close = imported(tmp_path, BARS, BAR_TEXT, stamp="close")
    assert at_close["ts"].to_list() == [ts - HOUR for ts in at_open["ts"]]
    assert at_close["available_at"].to_list() == [ts + timedelta(seconds=5) for ts in at_open["ts"]]


def test_minute_bars_are_known_a_minute_after_their_open(tmp_path):
    text = "time,o,h,l,c\n2025-01-01 00:00:00,1,3,0.5,2\n2025-01-01 00:01:00.003,2,4,1,3\n"
    rows = imported(tmp_path, BARS, text, timeframe="1m", grid="1m")
    assert rows["ts"].to_list() == [T0, T0 + timedelta(minutes=1)]
    assert rows["timeframe"].unique().to_list() == ["1m"]
    assert rows["available_at"][0] == T0 + timedelta(minutes=1, seconds=5)


@pytest.mark.parametrize(("timeframe", "grid"), [("1m", "1h"), ("1h", "1m")])
def test_a_grid_of_another_timeframe_is_refused(tmp_path, timeframe, grid):
    with pytest.raises(ConfigError, match=f"timeframe {timeframe} goes with grid: {timeframe}"):
        spec_of(tmp_path, BARS, timeframe=timeframe, grid=grid)


def test_the_open_interest_of_an_hour_is_known_at_its_close(tmp_path):
    text = "time,oi\n2025-01-01 00:00:00,10\n"
    rows = imported(tmp_path, INTEREST, text, stamp="open")
    assert rows["ts"].to_list() == [T0 + HOUR]
    assert rows["available_at"].to_list() == [T0 + HOUR + timedelta(seconds=5)]


def test_floored_stamps_keep_the_instant_they_were_known(tmp_path):
    text = "time,oi\n2025-01-01 00:00:00.467,10\n2025-01-01 00:00:30,11\n2025-01-01 01:00:00,12\n"
    rows = imported(tmp_path, INTEREST, text, delay_s=2.0)
    assert rows.select("ts", "oi_base").rows() == [(T0, 10.0), (T0 + HOUR, 12.0)]  # never a later value earlier
    assert rows["available_at"][0] == T0 + timedelta(seconds=2, milliseconds=467)


def test_rows_that_contradict_each_other_are_told_and_equal_ones_are_not(tmp_path):
    text = BAR_TEXT + "2025-01-01 00:00:00,1,3,0.5,2\n" + "2025-01-01 01:00:00,2,4,1,3.5\n" * 2
    (tmp_path / "bars.csv").write_text(text)
    told: list[str] = []
    _, rows = read_import(spec_of(tmp_path, BARS), tell=told.append)
    assert rows["close"].to_list() == [2.0, 3.0]
    assert told == [
        "bars.csv: 1 rows left out that contradict another of their ts, the first at 2025-01-01T01:00:00Z; "
        "the first of each counts"
    ]


def test_without_a_grid_every_snapshot_keeps_its_instant(tmp_path):
    (tmp_path / "oi.csv").write_text("time,oi\n2025-01-01 00:20:00,10\n2025-01-01 00:40:00,11\n")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**INTEREST, "grid": None}))
    assert read_import(load_spec(tmp_path / "spec.yaml"))[1]["ts"].dt.minute().to_list() == [20, 40]


@pytest.mark.parametrize(
    ("changes", "coins", "usd", "source"),
    [
        ({}, [100.0, 200.0], [None, None], "coins as sent"),
        (
            {"price": PRICE},
            [100.0, 200.0],
            [1000.0, 4000.0],
            "coins as sent; USD = coins x open of binanceusdm BTC/USDT:USDT",
        ),
        ({"unit": "contracts", "contract_size": 0.01}, [1.0, 2.0], [None, None], "contracts of 0.01 coins as sent"),
        ({"unit": "contracts", "contract_size": {"BTC": 0.1}}, [10.0, 20.0], [None, None], "contracts as sent"),
        (
            {"unit": "usd", "price": PRICE},
            [10.0, 10.0],
            [100.0, 200.0],
            "coins = USD / open of binanceusdm BTC/USDT:USDT at ts",
        ),
        ({"unit": "usd", "price": {**PRICE, "at": "mean"}}, [200 / 15], [200.0], "mean of the opens"),
    ],
)
def test_units_become_coins_and_say_how(tmp_path, changes, coins, usd, source):
    text = "time,oi\n2025-01-01 00:00:00,100\n2025-01-01 01:00:00,200\n"
    rows = imported(tmp_path, INTEREST, text, opens(10.0, 20.0, 99.0), **changes)
    assert rows["oi_base"].to_list() == pytest.approx(coins)
    assert rows["oi_usd"].to_list() == usd
    assert source in rows["unit_source"][0]
    assert "approximation" in rows["unit_source"][0] or not changes.get("price")


def test_the_price_is_the_open_at_the_rows_own_instant_and_no_later_bar_matters(tmp_path):
    text = "time,oi\n2025-01-01 00:00:00,100\n2025-01-01 01:00:00,200\n"
    now = imported(tmp_path, INTEREST, text, opens(10.0, 20.0), unit="usd", price=PRICE)
    later = imported(tmp_path, INTEREST, text, opens(10.0, 20.0, 7.0, 9.0), unit="usd", price=PRICE)
    assert now.equals(later)


def test_rows_without_a_price_are_left_out_and_told(tmp_path):
    (tmp_path / "oi.csv").write_text("time,oi\n2025-01-01 00:00:00,100\n2025-01-01 01:00:00,200\n")
    told: list[str] = []
    _, rows = read_import(spec_of(tmp_path, INTEREST, unit="usd", price=PRICE), None, opens(10.0), told.append)
    assert rows.height == 1
    assert told == ["1 rows of open interest in USD left out: no bar of binanceusdm BTC/USDT:USDT opens at their ts"]


def test_many_assets_without_a_price_are_counted_and_the_first_is_named(tmp_path):
    coins = ("BTC", "DOGE", "ETH", "SOL", "XRP")
    text = "time,coin,oi\n2025-01-01 00:00:00,BTC,1\n" + "".join(f"2025-01-01 01:00:00,{coin},1\n" for coin in coins)
    (tmp_path / "oi.csv").write_text(text)
    told: list[str] = []
    wide = {"asset": {"column": "coin"}, "symbol": "{asset}/USDT:USDT", "unit": "usd", "price": PRICE}
    read_import(spec_of(tmp_path, INTEREST, **wide), None, opens(10.0), told.append)
    assert told == [
        "5 rows of open interest in USD left out: no bar of binanceusdm BTC/USDT:USDT (nor of 4 more) opens at their ts"
    ]


LONG = "time,where,coin,oi\n" + "".join(
    f"2025-01-01 00:00:00,{venue},{coin},1\n" for venue in ("binance", "bybit", "lighter") for coin in ("BTC", "XBT2")
)


def test_venue_and_asset_from_columns_renamed_and_filtered(tmp_path):
    rows = imported(
        tmp_path, INTEREST, LONG, where={"where": ["binance", "bybit"]},
        venue={"column": "where", "names": {"binance": "binanceusdm"}},
        asset={"column": "coin", "names": {"XBT2": "ETH"}},
        symbol={"binanceusdm": "{asset}/USDT:USDT", "bybit": "{asset}/USDC:USDC"},
    )  # fmt: skip
    assert rows.select("venue", "symbol", "asset").rows() == [
        ("binanceusdm", "BTC/USDT:USDT", "BTC"),
        ("binanceusdm", "ETH/USDT:USDT", "ETH"),
        ("bybit", "BTC/USDC:USDC", "BTC"),
        ("bybit", "ETH/USDC:USDC", "ETH"),
    ]


def test_a_symbol_column_names_the_asset(tmp_path):
    text = "time,sym,oi\n2025-01-01,BTC/USDT:USDT,1\n2025-01-01,ETHUSDT,1\n"
    symbol = {"column": "sym", "names": {"ETHUSDT": "ETH/USDT:USDT"}}
    assert imported(tmp_path, INTEREST, text, symbol=symbol)["asset"].to_list() == ["BTC", "ETH"]


def test_one_file_per_asset_without_a_header(tmp_path):
    for asset, close in (("BTC", 5), ("ETH", 6)):
        (tmp_path / f"{asset}.csv").write_text(f"2025-01-01 00:00:00,1,9,1,{close}\n")
    rows = imported(tmp_path, BARS, None, file=None, asset=None, files={"BTC": "BTC.csv", "ETH": "ETH.csv"},
                    header=["time", "o", "h", "l", "c"])  # fmt: skip
    assert rows.select("asset", "symbol", "close").rows() == [
        ("BTC", "BTC/USDT:USDT", 5.0),
        ("ETH", "ETH/USDT:USDT", 6.0),
    ]


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_feather_and_csv_give_the_same_rows(tmp_path, ending, unit):
    frame = pl.DataFrame({"time": [T0, T0 + HOUR], "o": [1, 2], "h": [3.0, 4.0], "l": [0.5, 1], "c": [2.0, 3]})
    frame = frame.with_columns(pl.col("time").dt.cast_time_unit(unit))
    path = tmp_path / f"bars.{ending}"
    {"parquet": frame.write_parquet, "feather": frame.write_ipc, "csv": frame.write_csv}[ending](path)
    rows = imported(tmp_path, BARS, None, file=path.name, time_zone=None)
    assert rows.drop("volume").equals(imported(tmp_path, BARS, BAR_TEXT).drop("volume"))


def test_funding_intervals_fixed_per_venue_from_a_column_or_from_the_stamps(tmp_path):
    text = "time,where,rate,h\n" + "".join(
        f"2025-01-01 {hour:02}:00:00.003,{venue},0.0001,{8 if venue == 'bybit' else 4}\n"
        for venue, hours in (("bybit", (0, 8, 16)), ("binanceusdm", (0, 4, 8)))
        for hour in hours
    )
    asked = {"venue": {"column": "where"}}
    per_venue = imported(tmp_path, FUNDING, text, **asked, interval_h={"bybit": 8, "binanceusdm": 4})
    from_stamps = imported(tmp_path, FUNDING, text, **asked, interval_h="stamps")
    columns = FUNDING["columns"] | {"interval_h": "h"}
    from_column = imported(tmp_path, FUNDING, text, **asked, interval_h=None, columns=columns)
    assert per_venue.equals(from_stamps)
    assert per_venue.equals(from_column)
    assert per_venue["interval_h"].to_list() == [4.0] * 3 + [8.0] * 3
    assert imported(tmp_path, FUNDING, text)["interval_h"].unique().to_list() == [8.0]


def test_a_span_keeps_its_rows_and_repeated_rows_count_once(tmp_path):
    text = BAR_TEXT + BAR_TEXT.split("\n", 1)[1]
    rows = imported(tmp_path, BARS, text, start="2025-01-01T01:00:00Z", end="2025-01-01T02:00:00Z")
    assert rows["ts"].to_list() == [T0 + HOUR]


def test_a_relative_file_is_looked_for_in_the_data_folder_and_then_beside_the_spec(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "bars.csv").write_text(BAR_TEXT)
    (tmp_path / "bars.csv").write_text(BAR_TEXT.replace("00:00:00,1,", "00:00:00,1.5,"))
    spec = spec_of(tmp_path, BARS)
    assert read_import(spec, data)[1]["open"][0] == 1.0
    assert read_import(spec, None)[1]["open"][0] == 1.5
    (data / "bars.csv").unlink()
    assert read_import(spec, data)[1]["open"][0] == 1.5
