"""On-chain and sentiment sources over real HTTP: their twins in the simulator, and services that break on purpose."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fakes.web_service import Reply, WebService
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from oihedge.config import load
from oihedge.core.clock import FixedClock
from oihedge.core.tables import conform, table
from oihedge.market.inputs.fetch import SOURCES, FetchedSource, fetch_sources, usable
from oihedge.market.inputs.settings import Inputs, InputSource
from oihedge.simulator.market import EmbeddedMarket
from oihedge.simulator.server import LoopbackServer

DAY = timedelta(days=1)
T0 = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 1, 20, 14, tzinfo=UTC)
KEY = "s3cret-K3Y-0123456789"
KEYS = {name: SecretStr(KEY) for name, source in SOURCES.items() if source.needs_key}
PATIENCE = {"timeout_s": 10.0, "attempts": 3, "backoff_s": 0.01, "max_backoff_s": 0.02, "max_pause_s": 2, "max_mb": 0.5}


@pytest.fixture(scope="module")
def shipped() -> Inputs:
    """The settings as they ship, but impatient."""
    inputs = load().market.inputs
    quick = {name: source.model_copy(update={"pace_s": 0.0}) for name, source in inputs.sources.items()}
    return inputs.model_copy(update={"sources": quick, "patience": inputs.patience.model_copy(update=PATIENCE)})


@pytest.fixture(scope="module")
def market() -> EmbeddedMarket:
    return EmbeddedMarket(load().simulator)


@pytest.fixture(scope="module")
def url(market: EmbeddedMarket) -> Iterator[str]:
    with LoopbackServer(market, FixedClock(NOW)) as server:
        yield server.url


def fetched(name: str, settings: Inputs, base_url: str | None = None, *, now=NOW, start=T0, keys=KEYS) -> FetchedSource:
    (one,) = fetch_sources(
        [SOURCES[name]], settings, start=lambda _: start, end=now, now=now, keys=keys, base_url=base_url
    )
    return one


def single(name: str, url: str, **more) -> Inputs:
    """Settings of one source at `url`: one asset and one metric."""
    metric = {"coinmetrics": "TxCnt", "cryptoquant": "flows/net:net", "lunarcrush": "sentiment"}.get(name, "m")
    told = {"use": True, "url": url, "assets": {"BTC": "btc"}, "metrics": {metric: "u"}, "delay_h": 6.0,
            "history": "as_published", **more}  # fmt: skip
    return Inputs.model_validate({"patience": PATIENCE, "sources": {name: told}})


ROW = {
    "coinmetrics": lambda day, v: {"data": [{"asset": "btc", "time": f"{day:%F}T00:00:00.000000000Z", "TxCnt": v}]},
    "alternative": lambda day, v: {"data": [{"value": v, "timestamp": str(int(day.timestamp()))}], "metadata": {}},
    "blockchain": lambda day, v: {"values": [{"x": int(day.timestamp()), "y": v}]},
    "glassnode": lambda day, v: [{"t": int(day.timestamp()), "v": v}],
    "cryptoquant": lambda day, v: {"result": {"data": [{"date": f"{day:%F}", "net": v}]}},
    "santiment": lambda day, v: {
        "data": {"getMetric": {"timeseriesDataJson": [{"datetime": f"{day:%F}T00:00:00Z", "value": v}]}}
    },
    "lunarcrush": lambda day, v: {"data": [{"time": int(day.timestamp()), "sentiment": v}]},
}  # fmt: skip
"""The body of each source that says `v` of one day."""


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_reads_its_twin_in_the_simulator(name: str, shipped: Inputs, url: str) -> None:
    one, told = fetched(name, shipped, url), shipped.sources[name]
    assert one.failures == ()
    rows = one.rows
    assert conform(rows, table(one.table), stamps=False).equals(rows)
    assert set(rows["metric"]) == set(told.metrics)
    assert set(rows["asset"]) == set(told.assets)
    assert rows["ts"].max() == NOW.replace(hour=0) - (1 if told.delay_h < 14 else 2) * DAY
    assert rows.height == rows.n_unique(["asset", "metric", "ts"])
    assert set(rows["unit"]) == set(told.metrics.values())


@pytest.mark.parametrize("name", SOURCES)
def test_a_day_is_known_only_after_its_end_and_the_delay(name: str, shipped: Inputs, url: str) -> None:
    told = shipped.sources[name]
    rows = fetched(name, shipped, url).rows
    published = rows["ts"] + DAY + timedelta(hours=told.delay_h)
    assert (published <= NOW).all()
    expected = published if told.history == "as_published" else [NOW] * rows.height
    assert rows["available_at"].to_list() == list(expected)


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "glassnode"])
def test_the_twins_past_does_not_change_when_time_goes_on(name: str, shipped: Inputs, market: EmbeddedMarket) -> None:
    columns = ["asset", "metric", "ts", "value"]
    parts = []
    for now in (NOW - 5 * DAY, NOW):
        with LoopbackServer(market, FixedClock(now)) as server:
            parts.append(fetched(name, shipped, server.url, now=now).rows.select(columns))
    earlier, later = parts
    assert 0 < earlier.height < later.height
    assert earlier.join(later, on=columns, how="inner").height == earlier.height


def test_glassnodes_twin_revises_its_newest_day(shipped: Inputs, market: EmbeddedMarket) -> None:
    seen = []
    for now in (NOW, NOW + DAY):
        with LoopbackServer(market, FixedClock(now)) as server:
            rows = fetched("glassnode", shipped, server.url, now=now).rows
        seen.append(rows.filter(asset="BTC", metric="market/mvrv", ts=NOW.replace(hour=0) - DAY)["value"].item())
    assert seen[0] != seen[1]


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("sent", "value"), [(12.5, 12.5), ("12.5", 12.5), (None, None)])
def test_numbers_come_as_numbers_or_text_and_missing_is_missing(name: str, sent, value) -> None:
    with WebService(Reply(ROW[name](T0, sent))) as service:
        one = fetched(name, single(name, service.url))
    assert one.failures == ()
    assert one.rows["value"].to_list() == ([] if value is None else [value])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("sent", ["many", True, {"a": 1}, "1_000", "inf", "1e999"])
def test_what_is_no_number_is_a_failure_and_no_row(name: str, sent) -> None:
    with WebService(Reply(ROW[name](T0, sent))) as service:
        one = fetched(name, single(name, service.url))
    assert one.rows.is_empty()
    assert "another shape" in one.failures[0]


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    "body", [{}, [], {"data": 7}, [7], "text", {"data": [[1, 2]]}, {"result": {"data": {}}}, {"values": {}}, None]
)
def test_json_of_another_shape_is_one_line_and_no_row(name: str, body) -> None:
    with WebService(Reply(body)) as service:
        one = fetched(name, single(name, service.url))
    assert one.rows.is_empty()
    if not (name == "glassnode" and body == []):  # an empty list is Glassnode's way to have nothing
        assert len(one.failures) == 1
        assert "\n" not in one.failures[0]
        assert name in one.failures[0]


GOOD = Reply(ROW["glassnode"](T0, 1.0))


@pytest.mark.parametrize(
    "fault",
    [
        Reply(b"busy", 429), Reply(b"busy", 429, {"Retry-After": "1"}), Reply(b"", 500), Reply(b"", 503),
        Reply(b"<html>maintenance</html>"), Reply(b""), Reply(GOOD.content[:9]), Reply(GOOD.content, cut=True),
        Reply(b'[{"t": 1704067200, "v": NaN}]'), Reply(b'[{"t": 1704067200, "v": Infinity}]'), Reply(b"\xff\xfe[]"),
        Reply(b"[" * 100_000),
    ],
    ids=lambda fault: f"{fault.status}-{fault.content[:12]!r}-{fault.cut}",
)  # fmt: skip
def test_what_may_pass_is_asked_again(fault: Reply) -> None:
    with WebService(fault, GOOD) as service:
        one = fetched("glassnode", single("glassnode", service.url))
    assert one.failures == ()
    assert one.rows["value"].to_list() == [1.0]
    assert len(service.requests) == 2


def test_an_answer_that_does_not_come_in_time_is_asked_for_again() -> None:
    with WebService(Reply(GOOD.content, wait_s=1.0), GOOD) as service:
        settings = single("glassnode", service.url)
        hasty = settings.patience.model_copy(update={"timeout_s": 0.4, "attempts": 20})
        one = fetched("glassnode", settings.model_copy(update={"patience": hasty}))
    assert one.rows["value"].to_list() == [1.0]
    assert len(service.requests) > 1


@pytest.mark.parametrize(
    ("fault", "says", "asked"),
    [
        (Reply(b"", 500), "could not be read in 3 attempts: HTTP 500", 3),
        (Reply(b"<html>"), "the answer is no JSON", 3),
        (Reply(b"", 400), "refuses the request; got HTTP 400; check its settings", 1),
        (Reply(b"", 404), "refuses the request; got HTTP 404", 1),
        (Reply(b"", 429, {"Retry-After": "99999"}), "asks for a pause of 99999 s", 1),
        (Reply(b"", 302, {"Location": "http://127.0.0.1:9/"}), "refuses the request; got HTTP 302", 1),
        (Reply(b" " * 2**20), "sends more than 0.5 MB", 1),
    ],
)
def test_what_stays_is_one_line(fault: Reply, says: str, asked: int) -> None:
    with WebService(fault) as service:
        one = fetched("glassnode", single("glassnode", service.url))
    assert len(one.failures) == 1
    assert says in one.failures[0]
    assert len(service.requests) == asked
    assert one.rows.is_empty()


def test_a_service_that_is_not_there_is_one_line() -> None:
    with WebService(GOOD) as service:
        gone = service.url
    one = fetched("glassnode", single("glassnode", gone))
    assert "the connection failed (ConnectError)" in one.failures[0]


def test_a_refused_key_is_not_tried_on_every_series() -> None:
    with WebService(Reply(b"", 401)) as service:
        one = fetched("glassnode", single("glassnode", service.url, metrics={"a/b": "u", "c/d": "u"}))
    assert len(service.requests) == 1
    assert "HTTP 401; check its key" in one.failures[0]


def test_a_series_that_fails_leaves_the_others() -> None:
    with WebService(Reply(b"", 400), GOOD) as service:
        one = fetched("glassnode", single("glassnode", service.url, metrics={"a/b": "u", "c/d": "u"}))
    assert len(one.failures) == 1
    assert one.rows["metric"].to_list() == ["c/d"]


def page(day: datetime, following: str | None) -> Reply:
    return Reply({**ROW["coinmetrics"](day, "1"), "next_page_url": following})


def test_coinmetrics_pages_are_followed_on_their_own_host() -> None:
    with WebService() as service:
        service.replies = [page(T0, f"{service.url}/v4/next?a=1"), page(T0 + DAY, None)]
        one = fetched("coinmetrics", single("coinmetrics", service.url))
    assert service.asked == ["/v4/timeseries/asset-metrics", "/v4/next"]
    assert one.rows["ts"].to_list() == [T0, T0 + DAY]


@pytest.mark.parametrize(
    "following", ["http://127.0.0.1:9/v4/x", "https://evil.example/v4/x", "http://[::1", "file:///etc/passwd"]
)
def test_coinmetrics_pages_never_lead_to_another_host(following: str) -> None:
    with WebService(page(T0, following)) as service:
        one = fetched("coinmetrics", single("coinmetrics", service.url))
    assert "points to" in one.failures[0]
    assert one.rows.is_empty()
    assert len(service.requests) == 1


def test_coinmetrics_pages_that_go_round_in_circles_end() -> None:
    with WebService() as service:
        service.replies = [page(T0, f"{service.url}/v4/round")]
        one = fetched("coinmetrics", single("coinmetrics", service.url))
    assert "pages without an end" in one.failures[0]


def test_the_twin_pages_too(shipped: Inputs, url: str) -> None:
    small = shipped.sources["coinmetrics"].model_copy(update={"parameters": {"page_size": "7"}})
    paged = shipped.model_copy(update={"sources": {"coinmetrics": small}})
    assert fetched("coinmetrics", paged, url).rows.equals(fetched("coinmetrics", shipped, url).rows)


def test_a_payload_of_another_asset_gives_no_row() -> None:
    body = {"data": [{"asset": "doge", "time": "2024-01-01T00:00:00Z", "TxCnt": "1"}]}
    with WebService(Reply(body)) as service:
        one = fetched("coinmetrics", single("coinmetrics", service.url))
    assert one.rows.is_empty()
    assert len(one.failures) == 1


def test_newest_first_repeated_and_out_of_span_days() -> None:
    days = [T0 + 2 * DAY, T0 + DAY, T0 + DAY, T0, T0 - 30 * DAY, NOW, NOW + DAY]
    body = [{"t": int(day.timestamp()), "v": float(n)} for n, day in enumerate(days)]
    with WebService(Reply(body)) as service:
        rows = fetched("glassnode", single("glassnode", service.url)).rows
    assert rows.select("ts", "value").rows() == [(T0, 3.0), (T0 + DAY, 2.0), (T0 + 2 * DAY, 0.0)]


def test_cryptoquant_asks_for_what_is_before_its_oldest_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oihedge.market.inputs.keyed._CRYPTOQUANT_ROWS", 2)
    rows = [{"date": f"{T0 + n * DAY:%F}", "net": n} for n in (2, 1, 0)]
    with WebService(Reply({"result": {"data": rows[:2]}}), Reply({"result": {"data": rows[2:]}})) as service:
        one = fetched("cryptoquant", single("cryptoquant", service.url))
    assert one.rows["value"].to_list() == [0.0, 1.0, 2.0]
    assert "to=20240102T000000" in service.requests[1][0]


def test_santiments_errors_come_with_http_200() -> None:
    with WebService(Reply({"errors": [{"message": "no such metric"}], "data": None})) as service:
        one = fetched("santiment", single("santiment", service.url))
    assert "it reports an error" in one.failures[0]


HEADERS = {
    "glassnode": ("X-Api-Key", KEY),
    "cryptoquant": ("Authorization", f"Bearer {KEY}"),
    "santiment": ("Authorization", f"Apikey {KEY}"),
    "lunarcrush": ("Authorization", f"Bearer {KEY}"),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("echo", ["value", "text"])
def test_the_key_goes_into_its_header_and_nowhere_else(
    name: str, status: int, echo: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Even where the service sends the key back: as a value, as a field, as a header."""
    body = ROW[name](T0, KEY) if echo == "value" else {KEY: KEY, "data": KEY, "errors": KEY}
    caplog.set_level(logging.DEBUG)
    with WebService(Reply(body, status, {"X-Echo": KEY[:5]})) as service:
        settings = single(name, service.url)
        one = fetched(name, settings)
    header, value = HEADERS[name]
    path, headers, sent = service.requests[0]
    assert headers[header] == value
    assert KEY not in path
    assert KEY.encode() not in sent
    assert one.failures
    everything = [*one.failures, caplog.text, str(one.rows.to_dicts()), repr(settings), repr(KEYS)]
    assert not [text for text in everything if KEY in text]


@pytest.mark.parametrize("key", ["line\nbreak", "ümlaut", "x" * 5000])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key: str) -> None:
    one = fetched("glassnode", single("glassnode", "http://127.0.0.1:9"), keys={"glassnode": SecretStr(key)})
    assert "is no plain printable text" in one.failures[0]
    assert key not in one.failures[0]


def test_no_exception_text_shows_the_key() -> None:
    from oihedge.core.errors import OihedgeError
    from oihedge.market.web import Web

    with WebService(Reply(b"", 500)) as service, Web("x", service.url, single("glassnode", service.url).patience,
                                                     headers={"X-Api-Key": KEY}) as web:  # fmt: skip
        with pytest.raises(OihedgeError) as caught:
            web.json("/a")
        assert KEY not in "".join(traceback.format_exception(caught.value, chain=True))


def test_sources_without_their_key_or_not_in_use_are_off_with_one_line_each(shipped: Inputs) -> None:
    blockchain = shipped.sources["blockchain"].model_copy(update={"use": False})
    settings = shipped.model_copy(update={"sources": {**shipped.sources, "blockchain": blockchain}})
    on, off = usable(settings, {"glassnode": SecretStr("k")})
    assert [source.name for source in on] == ["coinmetrics", "alternative", "glassnode"]
    assert [line.split()[0] for line in off] == ["blockchain", "cryptoquant", "santiment", "lunarcrush"]
    assert "OIHEDGE_SANTIMENT_KEY" in off[2]


@pytest.mark.parametrize("url", ["http://api.glassnode.com", "ftp://x", "http://127.0.0.1.evil.example:80/"])
def test_a_key_never_goes_over_plain_http(url: str) -> None:
    with pytest.raises(ValidationError, match="not safe"):
        single("glassnode", url)


def test_a_source_in_use_needs_assets_and_metrics() -> None:
    with pytest.raises(ValidationError, match="names no assets or no metrics"):
        single("glassnode", "https://api.glassnode.com", metrics={})
    assert InputSource.model_fields["history"].is_required()


FIELDS = (
    *("data", "result", "values", "t", "v", "x", "y", "time", "timestamp", "value", "date", "net", "asset", "TxCnt"),
    *("getMetric", "timeseriesDataJson", "datetime", "sentiment", "metadata", "next_page_url", "errors"),
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
    st.sampled_from(["btc", "2024-01-02", "2024-01-02T00:00:00Z", "1704067200", "12.5", 1704153600]),
)  # fmt: skip
PAYLOADS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)),
    max_leaves=25,
)


@pytest.mark.long
@pytest.mark.parametrize("name", SOURCES)
def test_no_payload_whatever_escapes_as_another_error_or_gives_a_wrong_row(name: str) -> None:
    with WebService(Reply({})) as service:
        settings = single(name, service.url)

        @given(PAYLOADS)
        @hypothesis_settings(max_examples=1500, deadline=None)
        def answered(body: object) -> None:
            service.replies = [Reply(body)]
            one = fetched(name, settings)
            assert all("\n" not in line and len(line) < 300 for line in one.failures)
            assert one.rows["value"].is_finite().all()
            assert one.rows["ts"].is_between(T0, NOW, closed="left").all()
            assert set(one.rows["asset"]) <= {"BTC"}

        answered()
