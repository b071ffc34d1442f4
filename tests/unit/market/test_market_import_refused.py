"""Import specs and files that are wrong: each is one clear line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from fakes.import_specs import BAR_TEXT, BARS, FUNDING, INTEREST, PRICE, imported, opens, spec_of

from oihedge.core.errors import ConfigError, DataError, OihedgeError
from oihedge.market import files
from oihedge.market.importing import load_spec


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
        {"asset": None, "symbol": {"column": "o"}}, BAR_TEXT, DataError, "'1' is no ccxt symbol", id="no symbol"
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
