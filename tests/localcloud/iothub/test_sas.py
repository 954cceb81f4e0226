import base64
import contextlib
from urllib.parse import quote

import pytest
from azure.iot.device.common.auth.sastoken import RenewableSasToken
from azure.iot.device.common.auth.signing_mechanism import SymmetricKeySigningMechanism
from hypothesis import given
from hypothesis import strategies as st

from localcloud.iothub import sas

KEY = base64.b64encode(b"k" * 32).decode()
OTHER = base64.b64encode(b"o" * 32).decode()
SECRETS = (sas.decode_key(OTHER), sas.decode_key(KEY))


def test_a_token_of_our_own_names_the_key_that_signed_it() -> None:
    token = sas.parse_token(sas.make_token("localhost/devices/d1", KEY, 2000))
    assert sas.verify(token, SECRETS, now=1999) == 1
    assert (token.resource, token.expiry, token.policy) == ("localhost/devices/d1", 2000, None)


def test_a_token_of_the_official_sdk_is_accepted() -> None:
    official = RenewableSasToken("localhost/devices/d1 %/ö", SymmetricKeySigningMechanism(KEY), ttl=3600)
    token = sas.parse_token(str(official))
    assert sas.verify(token, SECRETS, now=official.expiry_time - 1) == 1
    assert token.resource == "localhost/devices/d1 %/ö"


def test_the_order_of_fields_is_free_and_the_signature_is_over_sr_as_sent() -> None:
    lower = quote("localhost/devices/d1", safe="").replace("%2F", "%2f")
    signature = base64.b64encode(sas._sign(sas.decode_key(KEY), f"{lower}\n2000".encode())).decode()
    token = sas.parse_token(f"{sas.SCHEME}se=2000&sig={quote(signature, safe='')}&skn=&sr={lower}")
    assert sas.verify(token, SECRETS, now=0) == 1
    assert token.policy is None


def test_a_token_is_refused_from_the_second_of_its_expiry() -> None:
    token = sas.parse_token(sas.make_token("localhost/devices/d1", KEY, 2000))
    with pytest.raises(sas.InvalidTokenError, match="expired 0 s ago"):
        sas.verify(token, SECRETS, now=2000)


def test_another_key_or_another_resource_is_refused() -> None:
    made = sas.make_token("localhost/devices/d1", KEY, 2000)
    for text, secrets in ((made, SECRETS[:1]), (made.replace("d1", "d2"), SECRETS), (made, ())):
        with pytest.raises(sas.InvalidTokenError, match="fits no key"):
            sas.verify(sas.parse_token(text), secrets, now=0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no SharedAccessSignature"),
        ("hunter2", "no SharedAccessSignature"),
        (f"{sas.SCHEME}sig=YQ%3D%3D&se=1", "lacks sr"),
        (f"{sas.SCHEME}sr=a&sig=YQ%3D%3D", "lacks se"),
        (f"{sas.SCHEME}sr=a&se=1&sig=", "lacks sig"),
        (f"{sas.SCHEME}sr=a&sr=b&se=1&sig=YQ%3D%3D", "twice"),
        (f"{sas.SCHEME}sr=a&se=-1&sig=YQ%3D%3D", "no unix time"),
        (f"{sas.SCHEME}sr=a&se={'9' * 13}&sig=YQ%3D%3D", "no unix time"),
        (f"{sas.SCHEME}sr=a&se=²&sig=YQ%3D%3D", "ASCII"),
        (f"{sas.SCHEME}sr=\udcff&se=1&sig=YQ%3D%3D", "ASCII"),
        (f"{sas.SCHEME}sr=a&se=1&sig=%C3%A4", "no base64"),
        (f"{sas.SCHEME}{'x' * 5000}", "longer than"),
    ],
)
def test_what_is_no_token_is_refused_with_a_reason(text: str, why: str) -> None:
    with pytest.raises(sas.InvalidTokenError, match=why):
        sas.parse_token(text)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(sas.InvalidTokenError):
        sas.parse_token(sas.SCHEME + text)


def test_a_policy_key_signs_decoded_or_as_its_text() -> None:
    decoded, text = sas.policy_secrets(KEY)
    token = sas.parse_token(sas.make_token("localhost", KEY, 2000, "iothubowner"))
    assert token.policy == "iothubowner"
    assert sas.verify(token, (decoded, text), now=0) == 0
    by_text = base64.b64encode(sas._sign(text, b"localhost\n2000")).decode()
    token = sas.parse_token(f"{sas.SCHEME}sr=localhost&sig={quote(by_text, safe='')}&se=2000&skn=iothubowner")
    assert sas.verify(token, (decoded, text), now=0) == 1


@pytest.mark.parametrize(
    ("resource", "covered"),
    [
        ("localhost", True),
        ("LOCALHOST:8443", True),
        ("localhost/", True),
        ("localhost/devices", True),
        ("localhost/devices/d1", True),
        ("localhost/devices/d1/", True),
        ("localhost/devices/d", False),
        ("localhost/devices/d1/messages", False),
        ("localhost/devices/D1", False),
        ("elsewhere/devices/d1", False),
        ("", False),
    ],
)
def test_a_resource_covers_whole_segments_below_it(resource: str, covered: bool) -> None:
    token = sas.parse_token(sas.make_token(resource or "/", KEY, 1))
    assert sas.covers(token, frozenset({"localhost"}), "devices/d1") is covered


def test_a_port_is_no_part_of_a_host_name() -> None:
    hosts = ["a:1", "A", "::1", "[::1]:8443", "[::1]", "127.0.0.3:443"]
    assert [sas.without_port(host) for host in hosts] == ["a", "a", "::1", "::1", "::1", "127.0.0.3"]


@pytest.mark.parametrize("key", ["", "not base64!", base64.b64encode(b"short").decode(), "ä"])
def test_a_key_that_iot_hub_would_refuse_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="a key must"):
        sas.decode_key(key)


def test_no_repr_shows_a_signature() -> None:
    token = sas.parse_token(sas.make_token("localhost", KEY, 1))
    assert str(token.signature) not in repr(token)
