import pytest

from localcloud.functions.access import cors_rules, given_key, host_name, is_authorized

HOSTS = ("localhost", "127.0.0.1", "::1", "pi.home")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:7071", "localhost"),
        ("[::1]:80", "::1"),
        ("a:b", None),
        ("user@localhost", None),
        ("localhost/x", None),
        ("localhost?x", None),
        ("[::1", None),
        ("", None),
    ],
)
def test_the_name_in_a_host_header(header: str, name: str | None) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:5173", True),
        ("https://127.0.0.1", True),
        ("http://[::1]:5173", True),
        ("http://pi.home:7071", True),
        ("http://pi.home:9999", False),
        ("http://localhost.evil.example", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
        ("file://localhost", False),
    ],
)
def test_by_default_pages_on_loopback_and_our_own_may_call(origin: str, allowed: bool) -> None:
    rules = cors_rules(HOSTS, None, credentials=False)
    assert rules.allows_origin(origin, "pi.home:7071") is allowed
    assert rules.response_headers(origin)["Access-Control-Allow-Credentials"] == "true"


def test_a_cors_list_replaces_the_loopback_default_and_a_star_echoes_every_origin() -> None:
    listed = cors_rules(HOSTS, "https://A.example/, http://b.example:1", credentials=True)
    assert listed.allows_origin("https://a.example", "x")
    assert not listed.allows_origin("http://localhost:5173", "x")
    star = cors_rules(HOSTS, "*", credentials=False)
    assert star.allows_origin("http://anyone.example", "x")
    assert star.response_headers("http://anyone.example") == {
        "Access-Control-Allow-Origin": "http://anyone.example",
        "Vary": "Origin",
    }


@pytest.mark.parametrize(
    ("level", "key", "opens"),
    [
        ("ANONYMOUS", None, True),
        ("FUNCTION", None, False),
        ("FUNCTION", "", False),
        ("FUNCTION", "default", True),
        ("FUNCTION", "master", True),
        ("FUNCTION", "mäster", False),
        ("ADMIN", "default", False),
        ("ADMIN", "master", True),
    ],
)
def test_which_key_opens_which_level(level, key: str | None, opens: bool) -> None:
    assert is_authorized(level, key, master="master", default="default") is opens


def test_a_key_in_the_header_counts_before_one_in_the_query() -> None:
    assert given_key({"x-functions-key": "h"}, {"code": "q"}) == "h"
    assert given_key({}, {"code": "q"}) == "q"
    assert given_key({}, {}) is None
