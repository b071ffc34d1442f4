"""Import specs and files that are wrong: each is one clear line."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
import yaml
from fakes.import_specs import BAR_TEXT, BARS, FUNDING, INTEREST, PRICE, imported, opens, spec_of

from oihedge.core.errors import ConfigError, DataError, OihedgeError
from oihedge.market import files
from oihedge.market.importing import load_spec
from oihedge.market.plain_yaml import plain_yaml


@pytest.mark.parametrize("name", ["bars.csv.gz", "bars.csv"])
def test_a_gzipped_csv_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", len(BAR_TEXT))
    path = tmp_path / name
    path.write_bytes(gzip.compress(BAR_TEXT.encode()))
    assert imported(tmp_path, BARS, file=name).height == 2
    path.write_bytes(gzip.compress((BAR_TEXT + "\n" * 10**6).encode()))
    with pytest.raises(DataError, match=f"{name} unpacks to too much"):
        imported(tmp_path, BARS, file=name)
    path.write_bytes(gzip.compress(BAR_TEXT.encode())[:-6])
    with pytest.raises(DataError, match=f"{name} cannot be read as csv"):
        imported(tmp_path, BARS, file=name)


BAD_FILES = [
    pytest.param({}, "time,o,h,l\n2025-01-01,1,2,3\n", DataError, "bars.csv lacks column 'c'", id="missing column"),
    pytest.param({}, "", DataError, "bars.csv cannot be read as csv", id="empty file"),
    pytest.param({}, "time,o,h,l,c\n", DataError, "bars.csv has no rows", id="no rows"),
    pytest.param({"format": "parquet"}, BAR_TEXT, DataError, "bars.csv cannot be read as parquet", id="wrong format"),
    pytest.param({"file": "bars.xls"}, None, DataError, "data file bars.xls is not there", id="absent"),
    pytest.param({"time_zone": None}, BAR_TEXT, ConfigError, "column time has stamps without a zone", id="naive"),
    pytest.param(
        {}, BAR_TEXT.replace("01:00:00", "01:00:00Z"), DataError, "column time mixes stamps with a zone", id="mixed"
    ),
    pytest.param(
        {},
        BAR_TEXT.replace("2025-01-01 01:00:00", "1735693200"),
        DataError,
        "column time mixes counts",
        id="epoch in text",
    ),
    pytest.param(
        {"time_zone": None},
        "time,o,h,l,c\n1735689600,1,3,1,2\n1735693200000,1,3,1,2\n",
        DataError,
        "mixes units of time",
        id="mixed units",
    ),
    pytest.param(
        {},
        BAR_TEXT.replace("2025-01-01 01", "January 1st"),
        DataError,
        "column time; expected a time like",
        id="no time",
    ),
    pytest.param(
        {},
        BAR_TEXT.replace("2025-01-01 01:00:00", ""),
        DataError,
        "column time has 1 rows without a stamp",
        id="blank stamp",
    ),
    pytest.param({}, BAR_TEXT.replace("01:00:00", "01:30:00"), DataError, "is off the 1h grid", id="off the grid"),
    pytest.param(
        {},
        BAR_TEXT.replace("01:00:00,2", "01:00:00,dear"),
        DataError,
        "column o; expected a number; got 'dear'",
        id="no number",
    ),
    pytest.param(
        {"start": "2026-01-01T00:00:00Z"}, BAR_TEXT, DataError, "bars.csv has no rows in the span", id="empty window"
    ),
    pytest.param({"where": {"o": ["77"]}}, BAR_TEXT, DataError, "column o has no '77'", id="filter matches nothing"),
    pytest.param({"where": {"x": ["7"]}}, BAR_TEXT, DataError, "lacks column 'x'", id="filter column"),
    pytest.param({"asset": {"column": "coin"}}, BAR_TEXT, DataError, "lacks column 'coin'", id="asset column"),
    pytest.param(
        {"asset": {"column": "o", "names": {"SOL": "SOL"}}},
        BAR_TEXT,
        DataError,
        "column o has no asset 'SOL'",
        id="unknown asset",
    ),
    pytest.param(
        {"asset": None, "symbol": {"column": "o"}}, BAR_TEXT, DataError, "column o: '1' is no symbol", id="no symbol"
    ),
    pytest.param(
        {"symbol": {"okx": "{asset}/USDT:USDT"}},
        BAR_TEXT,
        DataError,
        "no symbol is told for venue 'binanceusdm'",
        id="symbol of venue",
    ),
    pytest.param(
        {"time_zone": "+06:00"}, BAR_TEXT.replace(":00,", ":00Z,"), ConfigError, "carries its own zone", id="two zones"
    ),
    pytest.param(
        {"time_zone": "Europe/Paris"},
        BAR_TEXT.replace("01-01 01", "03-30 02"),
        DataError,
        "exists once in Europe/Paris",
        id="no such hour",
    ),
    pytest.param(
        {"header": ["time", "o", "h", "l", "c", "v"]},
        BAR_TEXT,
        DataError,
        "bars.csv has 5 columns",
        id="header too long",
    ),
]


@pytest.mark.parametrize(("changes", "text", "error", "says"), BAD_FILES)
def test_a_bad_file_is_one_clear_line(tmp_path, changes, text, error, says):
    with pytest.raises(error) as caught:
        imported(tmp_path, BARS, text, **changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 3)


BAD_SPECS = [
    pytest.param({"colums": {}}, "unknown key 'colums'", id="misspelt key"),
    pytest.param({"table": "trades"}, "table: Input should be", id="unknown table"),
    pytest.param({"columns": {"ts": "time"}}, "columns must name 'close'", id="missing mapping"),
    pytest.param({"columns": BARS["columns"] | {"vwap": "x"}}, "columns has 'vwap'", id="strange mapping"),
    pytest.param({"file": None}, "name either file or files", id="no file"),
    pytest.param({"files": {"ETH": "x.csv"}}, "name either file or files", id="both"),
    pytest.param({"asset": None}, "asset or symbol must be told", id="no asset"),
    pytest.param({"time_zone": "Mars/Base"}, "time_zone 'Mars/Base' is not known", id="zone"),
    pytest.param({"stamp": "instant"}, "a bar's stamp is its open or its close", id="bar instant"),
    pytest.param({"unit": "usd"}, "belong to table open_interest", id="unit of bars"),
    pytest.param({"start": "2025-01-01T00:00:00"}, "start", id="naive start"),
    pytest.param(
        {"start": "2025-01-02T00:00:00Z", "end": "2025-01-01T00:00:00Z"}, "start must be before end", id="span"
    ),
    pytest.param({"delay_s": -1.0}, "delay_s", id="negative delay"),
    pytest.param({"symbol": "{asset}/USDT", "asset": None}, "no asset is told", id="template"),
]


@pytest.mark.parametrize(("changes", "says"), BAD_SPECS)
def test_a_bad_spec_is_one_clear_line_that_names_the_file(tmp_path, changes, says):
    with pytest.raises(ConfigError) as caught:
        spec_of(tmp_path, BARS, **changes)
    assert says in str(caught.value)
    assert "spec.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_coins_rows_are_never_filed_under_anothers_name(tmp_path):
    with pytest.raises(DataError, match="symbol BTC/USDC:USDC is not of asset ETH"):
        imported(tmp_path, INTEREST, "time,oi\n2025-01-01 00:00:00,5\n", asset="ETH")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"unit": "usd"}, "needs price"),
        ({"unit": "contracts"}, "needs contract_size"),
        ({"contract_size": 1.0}, "needs contract_size, and only it"),
        ({"unit": None}, "must say its unit"),
    ],
)
def test_units_that_lack_what_they_need_are_refused(tmp_path, changes, says):
    with pytest.raises(ConfigError, match=says):
        spec_of(tmp_path, INTEREST, **changes)


@pytest.mark.parametrize("text", ["[1, 2", "just words", "- a\n- b\n"])
def test_a_spec_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"import spec .*spec\.yaml"):
        load_spec(path)


def test_a_spec_that_is_not_there_is_said():
    with pytest.raises(ConfigError, match="is not there"):
        load_spec(Path("nowhere.yaml"))


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        (None, "needs the price table"),
        (opens(), "import them first"),
        (lambda v, s: opens(1.0)(v, s).head(0), "no bars"),
    ],
)
def test_usd_without_prices_is_refused(tmp_path, prices, says):
    with pytest.raises(OihedgeError, match=says):
        imported(tmp_path, INTEREST, "time,oi\n2025-01-01,1\n", prices, unit="usd", price=PRICE)


def test_interval_for_an_unlisted_venue_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="interval_h has no entry for venue 'bybit'"):
        imported(tmp_path, FUNDING, "time,rate\n2025-01-01,0.1\n", interval_h={"okx": 8})


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x\n", "b: *x\n", "&x a: 1\n", "a: &x 1\n"])
def test_yaml_with_anchors_is_refused_before_they_can_grow(tmp_path, text):
    with pytest.raises(yaml.YAMLError, match="anchors and aliases are not taken, got 'x'"):
        plain_yaml(text)
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"import spec .*spec\.yaml cannot be read: anchors") as caught:
        load_spec(path)
    assert "\n" not in str(caught.value)
    assert plain_yaml("a: [1, {b: x}]") == {"a": [1, {"b": "x"}]}


@pytest.mark.parametrize("venue", ["\x1b[2Jbybit", "by bit", "\u202ebybit", "x" * 41, "-bybit"])
def test_a_venue_id_of_a_file_is_plain_text(tmp_path, venue):
    text = f"time,oi,v\n2025-01-01 00:00:00,5,okx\n2025-01-01 00:00:00,5,{venue}\n"
    with pytest.raises(DataError, match=r"oi\.csv column v: .* is no venue; expected an id like binanceusdm") as caught:
        imported(tmp_path, INTEREST, text, venue={"column": "v"})
    assert str(caught.value).isprintable()
    text = text.replace(venue, "x")
    assert imported(tmp_path, INTEREST, text, venue={"column": "v", "names": {"x": "binance.us-2_b"}}).height == 2


@pytest.mark.parametrize("stamp", ["2008-12-31 23:00:00", "2200-01-01 00:00:00", "9999-12-31 23:00:00", "1230764400"])
def test_an_instant_of_no_market_is_refused(tmp_path, stamp):
    with pytest.raises(DataError, match=r"oi\.csv column time; expected instants of the years 2009 to 2199"):
        imported(tmp_path, INTEREST, f"time,oi\n{stamp},5\n")
    for last in ("2009-01-01 00:00:00", "2199-12-31 23:00:00"):
        assert imported(tmp_path, INTEREST, f"time,oi\n{last},5\n").height == 1


@pytest.mark.parametrize("zone", ["UTC", None])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("count", [2**62, -(2**62), 2**63 - 1])
def test_a_wild_time_is_refused_before_it_is_cast(tmp_path, count, unit, zone):
    times = pl.Series([count]).cast(pl.Datetime(unit, zone))
    pl.DataFrame({"time": times, "oi": [5.0]}).write_ipc(tmp_path / "oi.feather")
    with pytest.raises(DataError, match=r"oi\.feather column time"):
        imported(tmp_path, INTEREST, file="oi.feather")


def test_a_panic_of_the_reader_is_one_line(tmp_path, monkeypatch):
    def panics(_):
        raise pl.exceptions.PanicException("index out of range\nnote")

    monkeypatch.setattr(files.pl, "read_ipc", panics)
    (tmp_path / "oi.feather").write_bytes(b"ARROW1")
    with pytest.raises(DataError, match=r"oi\.feather cannot be read as feather: index out of range; check") as caught:
        imported(tmp_path, INTEREST, file="oi.feather")
    assert "\n" not in str(caught.value)


def test_of_a_csv_only_the_named_columns_are_read(tmp_path):
    lines = "time,a,oi,a\n2025-01-01 00:00:00,x,5,y\n"
    assert imported(tmp_path, INTEREST, lines)["oi_base"].to_list() == [5.0]
    spec = spec_of(tmp_path, INTEREST)
    assert files.read_file(tmp_path / "oi.csv", spec).columns == list(spec.columns.values())
    unnamed = spec_of(tmp_path, INTEREST, header=["time", "x", "oi"])
    assert files.read_file(tmp_path / "oi.csv", unnamed).row(1, named=True) == {
        "time": "2025-01-01 00:00:00", "oi": "5",
    }  # fmt: skip
