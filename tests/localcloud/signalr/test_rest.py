"""Both REST generations, seen by WebSocket clients."""

import asyncio
import io

import pytest

BODY = {"target": "newMessage", "arguments": [1]}
V1, V2 = "/api/v1/hubs/chat", "/api/hubs/chat"


def sending(generation: str, scope: str) -> str:
    return f"{V1}{scope}" if generation == "v1" else f"{V2}{scope}/:send"


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_a_broadcast_reaches_everyone_but_the_excluded(service, generation: str) -> None:
    ann, bob = await service.websocket("ann"), await service.websocket()
    path = sending(generation, "")
    assert await service.call("POST", path, {"target": "t", "arguments": [1]}, excluded=bob.connection_id) == 202
    assert await service.call("POST", path, {"target": "t", "arguments": [2]}) == 202
    assert [await ann.arguments(), await ann.arguments(), await bob.arguments()] == [[1], [2], [2]]


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_a_send_to_a_user_reaches_all_connections_of_the_user_only(service, generation: str) -> None:
    one, two, other = [await service.websocket(user) for user in ("ann b/c", "ann b/c", "bob")]
    assert await service.call("POST", sending(generation, "/users/ann%20b%2Fc"), BODY) == 202
    assert await service.call("POST", sending(generation, "/users/bob"), {"target": "t", "arguments": [2]}) == 202
    assert [await one.arguments(), await two.arguments(), await other.arguments()] == [[1], [1], [2]]


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_a_send_to_a_connection_reaches_it_only(service, generation: str) -> None:
    one, two = await service.websocket(), await service.websocket()
    assert await service.call("POST", sending(generation, f"/connections/{two.connection_id}"), BODY) == 202
    await service.send("all")
    assert [await one.arguments(), await two.arguments(), await two.arguments()] == [["all"], [1], ["all"]]


@pytest.mark.parametrize("root", [V1, V2])
async def test_a_connection_joins_and_leaves_groups(service, root: str) -> None:
    member, other = await service.websocket(), await service.websocket()
    path = f"{root}/groups/g/connections/{member.connection_id}"
    assert await service.call("PUT", path) == 200
    await service.send("group", scope="/groups/g")
    assert await service.call("DELETE", path) == 200
    await service.send("nobody", scope="/groups/g")
    await service.send("all")
    assert [await member.arguments(), await member.arguments()] == [["group"], ["all"]]
    assert await other.arguments() == ["all"]


@pytest.mark.parametrize("path", [f"{V1}/groups/g/users/ann", f"{V1}/users/ann/groups/g", f"{V2}/users/ann/groups/g"])
async def test_a_user_joins_and_leaves_groups_with_connections_to_come(service, path: str) -> None:
    one = await service.websocket("ann")
    assert await service.call("GET", path) == 404
    assert await service.call("PUT", path) == 200
    assert await service.call("HEAD", path) == 200
    two = await service.websocket("ann")
    await service.send("group", scope="/groups/g")
    assert [await one.arguments(), await two.arguments()] == [["group"], ["group"]]
    assert await service.call("DELETE", path) == 200
    assert await service.call("GET", path) == 404


async def test_a_membership_may_be_for_the_present_connections_only(service) -> None:
    present = await service.websocket("ann")
    path = f"{V2}/users/ann/groups/g"
    assert await service.call("PUT", path, ttl=0) == 200
    later = await service.websocket("ann")
    await service.send("group", scope="/groups/g")
    await service.send("all")
    assert [await present.arguments(), await later.arguments()] == [["group"], ["all"]]
    assert await service.call("PUT", path, ttl=-1) == 400


async def test_connections_and_users_leave_all_groups(service) -> None:
    ann = await service.websocket("ann")
    connection = f"{V2}/connections/{ann.connection_id}"
    for group in "gh":
        assert await service.call("PUT", f"{V2}/groups/{group}/connections/{ann.connection_id}") == 200
    assert await service.call("DELETE", f"{connection}/groups") == 200
    assert await service.call("HEAD", f"{V2}/groups/g") == 404
    assert await service.call("PUT", f"{V2}/users/ann/groups/g") == 200
    assert await service.call("DELETE", f"{V2}/users/ann/groups") == 200
    assert await service.call("HEAD", f"{V2}/groups/g") == 404


@pytest.mark.parametrize(("root", "method"), [(V1, "GET"), (V1, "HEAD"), (V2, "HEAD")])
async def test_existence_is_told_by_the_status(service, root: str, method: str) -> None:
    ann = await service.websocket("ann")
    found = [f"/connections/{ann.connection_id}", "/users/ann"]
    missing = ["/connections/x", "/users/bob", "/groups/g", "/users/ann/groups/g"]
    assert [await service.call(method, root + scope) for scope in found] == [200, 200]
    assert {await service.call(method, root + scope) for scope in missing} == {404}


async def test_a_connection_is_closed_with_a_reason_and_does_not_come_back_by_itself(service) -> None:
    ann = await service.websocket("ann")
    assert await service.call("DELETE", f"{V2}/connections/{ann.connection_id}", reason="bye") == 200
    assert await ann.receive() == {"type": 7, "error": "bye"}
    assert await ann.receive() is None
    assert await service.call("DELETE", f"{V2}/connections/{ann.connection_id}") == 200


@pytest.mark.parametrize("scope", ["", "/users/ann", "/groups/g"])
async def test_connections_are_closed_by_scope_but_for_the_excluded(service, scope: str) -> None:
    gone, kept = await service.websocket("ann"), await service.websocket("ann")
    assert await service.call("PUT", f"{V2}/users/ann/groups/g") == 200
    path = f"{V2}{scope}/:closeConnections"
    assert await service.call("POST", path, excluded=kept.connection_id) == 204
    await service.send("still here")
    assert (await gone.receive())["type"] == 7
    assert await kept.arguments() == ["still here"]


async def test_a_group_change_for_a_connection_that_is_gone_is_told(service) -> None:
    assert await service.call("PUT", f"{V2}/groups/g/connections/x") == 404
    assert await service.call("DELETE", f"{V2}/groups/g/connections/x") == 404
    assert await service.call("DELETE", f"{V2}/connections/x/groups") == 404


async def test_groups_per_connection_are_limited(start_service) -> None:
    service = await start_service(limits={"max_groups": 1})
    ann = await service.websocket("ann")
    assert await service.call("PUT", f"{V2}/groups/g/connections/{ann.connection_id}") == 200
    assert await service.call("PUT", f"{V2}/groups/h/connections/{ann.connection_id}") == 400
    assert await service.call("PUT", f"{V2}/users/ann/groups/h") == 400


async def test_a_send_to_nobody_is_accepted(service) -> None:
    for scope in ("", "/users/x", "/groups/x", "/connections/x"):
        assert await service.call("POST", f"{V2}{scope}/:send", BODY) == 202


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"target":1}', b'{"target":"t","arguments":[\xff]}'])
async def test_a_malformed_body_is_refused_with_a_reason(service, body: bytes) -> None:
    url = f"{service.base}{V1}"
    async with service.session.post(url, data=body, headers=service.bearer(url)) as response:
        assert response.status == 400
        answer = await response.json()
    assert answer["code"] == "BadRequest"
    assert "the body" in answer["message"]


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_body_of_more_than_a_mebibyte_is_refused(service, is_chunked: bool) -> None:
    url = f"{service.base}{V1}"
    exact = b'{"target":"t","arguments":["%s"]}'
    fits = exact % (b"x" * (2**20 - len(exact) + 2))
    for body, status in ((fits, 202), (fits + b" ", 413)):
        async with service.session.post(
            url, data=_chunks(body) if is_chunked else io.BytesIO(body), headers=service.bearer(url)
        ) as response:
            assert response.status == status


async def _chunks(body: bytes):
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


async def test_a_body_that_never_ends_times_out(start_service) -> None:
    service = await start_service(limits={"request_seconds": 0.1})

    async def endless():
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    url = f"{service.base}{V1}"
    async with service.session.post(url, data=endless(), headers=service.bearer(url)) as response:
        assert response.status == 408


async def test_a_call_needs_a_token_for_its_own_path(service) -> None:
    url = f"{service.base}{V1}"
    for headers in (
        {},
        service.as_client(),
        service.bearer(f"{url}/users/ann"),
        service.bearer(url, lifetime_seconds=0),
    ):
        async with service.session.post(url, json=BODY, headers=headers) as response:
            assert response.status == 401


async def test_a_calls_audience_may_lack_the_port_and_have_the_query(service) -> None:
    ann = await service.websocket()
    url = f"{service.base}{V2}/:send?api-version=2024-12-01"
    headers = service.bearer("http://localhost/api/hubs/chat/:send?api-version=2024-12-01")
    async with service.session.post(url, json=BODY, headers=headers) as response:
        assert response.status == 202
    assert await ann.arguments() == [1]


async def test_hub_names_do_not_mind_case_and_may_belong_to_an_application(service) -> None:
    ann = await service.websocket()
    assert await service.call("POST", "/api/hubs/Chat/:send", BODY) == 202
    assert await service.call("POST", "/api/hubs/chat/:send", BODY, application="App") == 202
    assert await service.call("POST", "/api/hubs/chat/:send", {"target": "t", "arguments": [2]}) == 202
    assert [await ann.arguments(), await ann.arguments()] == [[1], [2]]


@pytest.mark.parametrize("path", ["/api/v1/hubs/1", "/api/v1/hubs/chat/users/" + "x" * 1025])
async def test_names_beyond_the_rules_are_refused(service, path: str) -> None:
    assert await service.call("POST", path, BODY) == 400
