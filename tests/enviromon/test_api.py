import azure.functions as func
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enviromon.api import Api
from enviromon.cost import Batching, Workload, estimate
from enviromon.device_state import DeviceState
from enviromon.errors import StorageError
from enviromon.metrics import METRICS
from enviromon.prices import load_prices
from enviromon.reports import mark_removed
from enviromon.settings import Settings
from enviromon.stores import Change
from tests.enviromon.world import T0, Out, World, body, content_of, delivery, event

VIEWER = "viewer-0123456789abcdef"
READS = ["devices", "ledger", "cost", "metrics_catalogue", "calibration", "negotiate", "getdevicestate"]
PARAMS = {"cost": {"devices": "1", "rate": "1"}}
BOUND = {"negotiate": {"info": "{}"}, "getdevicestate": {"snapshot": Out()}}


def request(method="GET", content=b"", *, headers=None, params=None, route=None):
    return func.HttpRequest(
        method, "/api", headers=headers or {}, params=params or {}, route_params=route or {}, body=content
    )


def is_problem(response, status):
    assert response.mimetype == "application/problem+json"
    assert (response.status_code, content_of(response)["status"]) == (status, status)
    return content_of(response)["detail"]


@pytest.fixture
def api(stores):
    return Api(stores, Settings(read_access="open"), clock=lambda: T0 / 1000)


async def add_devices(stores, count):
    await stores.devices.compare_and_set([Change(DeviceState(f"d{n:03}", revision=1), None) for n in range(count)])


async def test_devices_are_told_a_page_at_a_time(stores, api):
    await add_devices(stores, 5)
    first = content_of(await api.devices(request(params={"limit": "3"})))
    rest = content_of(await api.devices(request(params={"limit": "3", "after": first["next"]})))
    assert [view["deviceId"] for view in first["devices"] + rest["devices"]] == [f"d{n:03}" for n in range(5)]
    assert (first["serverTime"], rest["next"]) == ("2026-11-24T00:00:00.000Z", None)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "\u0661", "9" * 5000])
async def test_a_limit_out_of_bounds_is_refused(api, limit):
    assert "limit" in is_problem(await api.devices(request(params={"limit": limit})), 400)
    is_problem(await api.dead_letters(request(params={"limit": limit})), 400)


@given(st.text(max_size=30))
async def test_no_page_token_breaks_anything(after):
    from enviromon.stores import open_stores  # noqa: PLC0415

    stores = open_stores("sqlite::memory:", "site")
    api = Api(stores, Settings(read_access="open"))
    for answer in (api.devices, api.dead_letters):
        assert (await answer(request(params={"after": after}))).status_code in {200, 400}
    await stores.close()


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(("given_key", "status"), [(None, 401), ("wrong", 401), ("schlüssel", 401), ("sesame", 200)])
async def test_reads_need_the_key_unless_they_are_open(app, monkeypatch, name, given_key, status):
    monkeypatch.setenv("READ_ACCESS", "key")
    monkeypatch.setenv("READ_KEY", "sesame")
    headers = {"x-enviromon-key": given_key} if given_key else {}
    content = {"viewer": VIEWER} if name == "getdevicestate" else None
    response = await app.http(
        name,
        "POST",
        content,
        headers=headers,
        params=PARAMS.get(name),
        route={"deviceId": "d1"},
        **BOUND.get(name, {}),
    )
    assert response.status_code == (202 if status == 200 and name == "getdevicestate" else status)
    if status == 401:
        assert "x-enviromon-key" in is_problem(response, 401)


async def test_without_a_key_to_compare_nobody_reads(stores):
    response = await Api(stores, Settings()).devices(request(headers={"x-enviromon-key": ""}))
    assert "READ_KEY" in is_problem(response, 403)


async def test_negotiate_hands_out_what_the_binding_made(api):
    response = await api.negotiate(request("POST"), '{"url":"u"}')
    assert (response.status_code, response.mimetype, response.get_body()) == (200, "application/json", b'{"url":"u"}')
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("viewer", "status"), [(VIEWER, 200), ("short", 400), ("x" * 129, 400), ("../../admin-0123456789", 400)]
)
async def test_a_viewers_id_must_be_hard_to_guess(api, viewer, status):
    assert (await api.negotiate(request("POST", route={"viewer": viewer}), "{}")).status_code == status


@pytest.mark.parametrize("content", [b"", b"{}", b'{"viewer":""}'])
async def test_a_snapshot_without_a_viewer_is_refused_and_told_where_to_look(api, content):
    assert "GET /api/devices" in is_problem(await api.get_device_state(request("POST", content), print), 400)


@pytest.mark.parametrize("content", [b"junk", b"[]", b'{"viewer":5}', b"\xff", b"[" * 10_000, b'{"viewer":"short"}'])
async def test_a_snapshot_for_nonsense_is_refused(api, content):
    is_problem(await api.get_device_state(request("POST", content), print), 400)


async def test_a_large_body_is_refused_unread(api):
    is_problem(await api.get_device_state(request("POST", b" " * 65_537), print), 413)


async def test_a_viewer_gets_one_snapshot_per_five_seconds(stores):
    now = [1000.0]
    api = Api(stores, Settings(read_access="open"), clock=lambda: now[0])
    await add_devices(stores, 1)

    async def ask(viewer=VIEWER):
        return await api.get_device_state(request("POST", body(viewer=viewer)), lambda _: None)

    assert (await ask()).status_code == 202
    now[0] += 1.5
    refused = await ask()
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "4")
    assert (await ask("another" * 4)).status_code == 202
    now[0] += 3.5
    assert (await ask()).status_code == 202


async def test_a_snapshot_of_nothing_sends_nothing(api):
    out = Out()
    assert (await api.get_device_state(request("POST", body(viewer=VIEWER)), out.set)).status_code == 202
    assert out.value is None


async def test_a_calibration_is_written_told_and_removed(api):
    route = {"deviceId": "d1"}
    put = await api.write_calibration(
        request("PUT", body(metrics={"temperature": {"slope": 1.5}}, validFrom="2026-01-01"), route=route)
    )
    told = content_of(await api.calibration(request(route=route)))
    assert content_of(put) == told
    assert told == {
        "deviceId": "d1",
        "versions": [
            {"validFrom": "2026-01-01T00:00:00.000Z", "metrics": {"temperature": {"slope": 1.5, "intercept": 0.0}}}
        ],
    }
    removal = request("DELETE", route=route, params={"validFrom": "2026-01-01T00:00:00.000Z"})
    assert (await api.write_calibration(removal)).status_code == 204
    is_problem(await api.write_calibration(removal), 404)


async def test_a_calibration_without_a_date_is_valid_from_now_on(api):
    put = request("PUT", body(metrics={"light": {"intercept": 1}}), route={"deviceId": "d1"})
    (version,) = content_of(await api.write_calibration(put))["versions"]
    assert version["validFrom"] == "2026-11-24T00:00:00.000Z"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", body(metrics={}), body(metrics={"nonsense": {}}), body(metrics={"light": {"slope": "2"}}),
        body(metrics={"light": {"slop": 2}}), b'{"metrics":{"light":{"slope":1e999}}}',
        body(metrics={"light": {}}, validFrom="soon"), body(metrics={"light": {}}, else_=1),
    ],
)  # fmt: skip
async def test_a_calibration_that_makes_no_sense_is_refused(api, content):
    is_problem(await api.write_calibration(request("PUT", content, route={"deviceId": "d1"})), 400)


@pytest.mark.parametrize("device", ["a b", "", "ä", "x" * 129, "a/b"])
async def test_a_calibration_needs_a_possible_device(api, device):
    is_problem(await api.calibration(request(route={"deviceId": device})), 400)


async def test_dead_letters_are_told_readable_and_exact(app):
    await app.telemetry(event(1, b"\xff\x00"), event(2, b"junk"))
    binary, text = content_of(await app.http("dead_letters"))["deadLetters"]
    assert (binary["body"], binary["bodyBase64"]) == ("\\xff\x00", "/wA=")
    assert (text["body"], "bodyBase64" in text, text["enqueuedTime"]) == ("junk", False, "2026-11-24T00:00:02.000Z")
    assert set(text) >= {"reason", "detail", "deviceId", "partition", "sequence", "index"}


async def test_the_ledger_adds_up_all_devices_removed_ones_included(stores, api):
    world = World(stores)
    await world.send(delivery(1), delivery(2, b"junk", device="d2"), delivery(3, device="d2"))
    assert await mark_removed(stores.devices, "d2", T0 + 60_000)
    report = content_of(await api.ledger(request()))
    assert report.pop("devices") == {
        "d1": {"received": 1, "accepted": 1, "duplicate": 0, "late": 0, "rejected": 0},
        "d2": {"received": 2, "accepted": 1, "duplicate": 0, "late": 0, "rejected": 1},
    }
    assert report == {"received": 3, "accepted": 2, "duplicate": 0, "late": 0, "rejected": 1}
    assert [view["deviceId"] for view in content_of(await api.devices(request()))["devices"]] == ["d1"]


async def test_a_device_that_never_sent_needs_no_removal(stores):
    assert not await mark_removed(stores.devices, "d1", T0)


async def test_the_catalogue_tells_every_metric(api):
    told = content_of(await api.metrics_catalogue(request()))["metrics"]
    assert [metric["name"] for metric in told] == [metric.name for metric in METRICS]
    assert set(told[0]) == {"name", "label", "unit", "minimum", "maximum", "usual", "decimals"}


async def test_a_store_that_fails_is_a_problem_that_passes(api, stores):
    async def fail(*_):
        raise StorageError("/secret/path: disk I/O error")

    stores.devices.page = fail
    response = await api.devices(request())
    assert "secret" not in is_problem(response, 503)
    assert response.headers["Retry-After"] == "5"


async def test_the_cost_is_told_with_what_it_rests_on(stores):
    settings = Settings(read_access="open", instance_memory_mb=512)
    api = Api(stores, settings, batching=Batching(minimum=1000, maximum=1000, max_wait=5))
    told = content_of(await api.cost(request(params={"devices": "6", "rate": "6", "viewers": "2"})))
    expected = Workload(
        devices=6, rate=6, viewers=2, memory_mb=512, batching=Batching(minimum=1000, maximum=1000, max_wait=5)
    )
    usage, bill = estimate(expected, load_prices())
    assert told["perMonth"] == pytest.approx(bill.per_month)
    assert told["usage"]["signalrMessages"] == pytest.approx(usage.signalr_messages)
    assert told["fitsFreeTier"] is False
    assert told["reasons"][0] == "IoT Hub: 518,000 messages of 0.5 KB a day, 8,000 are free"
    assert sum(line["perMonth"] for line in told["lines"]) == pytest.approx(told["perMonth"])
    assert told["prices"]["compiled"] == load_prices().compiled.isoformat()


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({}, "devices"), ({"devices": "6"}, "rate"), ({"devices": "6", "rate": "nan"}, "rate"),
        ({"devices": "6", "rate": "inf"}, "rate"), ({"devices": "-1", "rate": "1"}, "devices"),
        ({"devices": "6", "rate": "1", "viewers": "many"}, "viewers"), ({"devices": "6", "rate": "1e6"}, "IoT Hub"),
        ({"devices": "1e999", "rate": "1"}, "devices"),
    ],
)  # fmt: skip
async def test_a_cost_that_cannot_be_told_is_refused_by_name(api, params, name):
    assert name in is_problem(await api.cost(request(params=params)), 400)
