"""Connection strings and tokens, checked against PyJWT in both directions."""

import jwt
import pytest

from localcloud.signalr.tokens import (
    ConnectionString,
    InvalidTokenError,
    make_token,
    parse_connection_string,
    verify_token,
)

KEY = "a2V5LWtleS1rZXkta2V5LWtleS1rZXkta2V5LWtleS0="
NOW = 1_800_000_000.0
CLIENT = "http://localhost:8888/client/?hub=enviromon"


def signed(claims: dict[str, object], key: str = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def test_a_connection_string_is_read_in_any_case_and_order() -> None:
    read = parse_connection_string(f"port=8888;AccessKey={KEY};Endpoint=http://localhost/;Version=1.0;")
    assert read == ConnectionString(endpoint="http://localhost", access_key=KEY, port=8888)
    assert read.base_url == "http://localhost:8888"
    assert read.client_url("Enviromon") == CLIENT


def test_clients_are_sent_to_the_client_endpoint_where_one_is_named() -> None:
    read = parse_connection_string(f"Endpoint=https://a.example;AccessKey={KEY};ClientEndpoint=https://b.example/x/")
    assert read.client_url("chat") == "https://b.example/x/client/?hub=chat"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Endpoint=http://localhost", "AccessKey"),
        (f"AccessKey={KEY}", "Endpoint"),
        (f"Endpoint=ftp://localhost;AccessKey={KEY}", "Endpoint"),
        (f"Endpoint=http://localhost;AccessKey={KEY};Port=http", "Port"),
        (f"Endpoint=http://localhost;AccessKey={KEY};Port=65536", "Port"),
    ],
)
def test_a_bad_connection_string_is_refused_by_rule_and_without_the_key(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        parse_connection_string(text)
    assert KEY not in str(caught.value)


def test_a_connection_string_shows_no_key() -> None:
    assert KEY not in repr(parse_connection_string(f"Endpoint=http://localhost;AccessKey={KEY}"))


def test_pyjwt_reads_our_tokens() -> None:
    token = make_token(KEY, CLIENT, now=NOW, user_id="ünï", lifetime_seconds=60)
    claims = jwt.decode(token, KEY, algorithms=["HS256"], audience=CLIENT, options={"verify_iat": False})
    assert claims == {"aud": CLIENT, "iat": NOW, "exp": NOW + 60, "nameid": "ünï"}


def test_we_read_pyjwts_tokens() -> None:
    claims = verify_token(signed({"aud": CLIENT, "exp": NOW + 1, "nameid": "viewer"}), KEY, now=NOW)
    assert (claims.user_id, claims.expires, claims.audiences) == ("viewer", NOW + 1, (CLIENT,))


@pytest.mark.parametrize("name", ["nameid", "asrs.s.uid"])
def test_the_user_id_is_found_under_the_names_that_sdks_give_it(name: str) -> None:
    assert verify_token(signed({"aud": CLIENT, "exp": NOW + 1, name: "u"}), KEY, now=NOW).user_id == "u"


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        ({"aud": CLIENT}, "lacks exp"),
        ({"aud": CLIENT, "exp": NOW}, "expired"),
        ({"exp": NOW + 60}, "lacks aud"),
        ({"aud": [], "exp": NOW + 60}, "lacks aud"),
        ({"aud": CLIENT, "exp": NOW + 600, "nbf": NOW + 301}, "not valid yet"),
        ({"aud": CLIENT, "exp": NOW + 60, "nameid": "u" * 1025}, "user id"),
    ],
)
def test_a_token_that_breaks_a_rule_is_refused(claims: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidTokenError, match=rule):
        verify_token(signed(claims), KEY, now=NOW)


def test_only_hs256_with_the_right_key_opens() -> None:
    claims: dict[str, object] = {"aud": CLIENT, "exp": NOW + 60}
    with pytest.raises(InvalidTokenError, match="signature"):
        verify_token(signed(claims, key="x" * 32), KEY, now=NOW)
    with pytest.raises(InvalidTokenError, match="HS256"):
        verify_token(signed(claims, key=KEY * 2, algorithm="HS512"), KEY, now=NOW)
    with pytest.raises(InvalidTokenError, match="HS256"):
        verify_token(signed(claims, key="", algorithm="none"), KEY, now=NOW)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "é.é.é", "eyJhbGciOiJIUzI1NiJ9.e30.", "x" * 9000, "eyJhbGciOiJIUzI1NiJ9.\udc80."]
)
def test_garbage_is_an_invalid_token(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        verify_token(text, KEY, now=NOW)


@pytest.mark.parametrize(
    "audience",
    [
        CLIENT,
        "http://localhost/client/?hub=enviromon",  # the SDKs' form where the connection string names a Port
        "https://viewer.example:1/client?hub=Enviromon",
    ],
)
def test_a_clients_audience_is_compared_by_hub_alone(audience: str) -> None:
    claims = verify_token(make_token(KEY, audience, now=NOW), KEY, now=NOW)
    assert claims.opens_hub("enviromon")
    assert not claims.opens_hub("other")
    assert not claims.opens_path("/api/v1/hubs/enviromon")


def test_a_rest_calls_audience_is_compared_by_path_alone() -> None:
    url = "http://localhost/api/hubs/Chat/users/a%20b/:send?api-version=2024-12-01"
    claims = verify_token(make_token(KEY, url, now=NOW), KEY, now=NOW)
    assert claims.opens_path("/api/hubs/chat/users/a b/:send")
    assert not claims.opens_path("/api/hubs/chat/:send")
    assert not claims.opens_hub("chat")


def test_an_audience_that_is_no_url_opens_nothing() -> None:
    claims = verify_token(make_token(KEY, "http://[", now=NOW), KEY, now=NOW)
    assert not claims.opens_hub("")
    assert not claims.opens_path("")
