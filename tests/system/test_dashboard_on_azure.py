"""The page as Azure serves it: a static website on one origin, the API on another, its own policy in its text.

The site is what the deployment's hook makes of the built page; the API and SignalR are the local system's. Entra ID is
stood in for at its address, with Microsoft's own library in the page.
"""

import base64
import json
import time
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.http_servers import QuietHandler, serving
from tests.infra.test_hooks import publish
from tests.system.sdk import MARKS
from tests.system.test_browser import browser, send, status, value  # noqa: F401 - fixtures

pytestmark = [pytest.mark.slow, *MARKS]

BUILT = Path(__file__).parents[2] / "dashboard/dist"
LOGIN = "https://login.microsoftonline.com"
TENANT = "6a1f4c1e-0000-4000-8000-000000000001"
CLIENT = "6a1f4c1e-0000-4000-8000-000000000002"


class SiteHandler(QuietHandler, SimpleHTTPRequestHandler):
    """Files of a directory."""


@pytest.fixture
def website(system, tmp_path):
    """Serve the page as the hook renders it for a deployment with these values; return its address."""
    servers = ExitStack()

    def serve(**values):
        signalr = f"http://{system.ready['hostname']}:{system.ready['ports']['signalr']}"
        publish.render(BUILT, tmp_path / "site", {"API_URL": system.url, "SIGNALR_URL": signalr, **values})
        return servers.enter_context(serving(partial(SiteHandler, directory=tmp_path / "site")))

    with servers:
        yield serve


@pytest.fixture
def page(browser):  # noqa: F811
    context = browser.new_context()
    context.set_default_timeout(10_000)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    context.close()
    assert complaints == []


def test_the_page_follows_an_api_and_a_signalr_service_elsewhere(page, website, send):  # noqa: F811
    page.goto(website())
    send('{"temperature": 21.5}')
    expect(value(page)).to_contain_text("21.5")
    expect(status(page)).to_have_attribute("data-state", "live")


@pytest.fixture
def wanted_key(stopped_system):
    """Let the system that starts after this want a key of its readers."""
    stopped_system.environment = {"READ_ACCESS": "key", "READ_KEY": "open-sesame"}
    return "open-sesame"


def test_the_key_of_the_address_goes_to_the_api_alone(wanted_key, page, website, send, system):  # noqa: F811
    asked = []
    page.on("request", lambda request: asked.append((request.url, request.headers.get("x-enviromon-key"))))
    page.goto(f"{website()}/#key={wanted_key}")
    send('{"temperature": 8.5}')
    expect(value(page)).to_contain_text("8.5")
    expect(status(page)).to_have_attribute("data-state", "live")
    to_api = {key for url, key in asked if url.startswith(f"{system.url}/api/")}
    assert to_api == {wanted_key}
    assert not any(wanted_key in f"{url}{key}" for url, key in asked if not url.startswith(system.url))


REFUSED_BY_POLICY = """(url) => new Promise((resolve) => {
    document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
    fetch(url).then(() => resolve("fetched"), () => {});
})"""


def test_the_page_may_connect_to_nothing_else(browser, website):  # noqa: F811
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(website())
    assert opened.evaluate(REFUSED_BY_POLICY, "http://127.0.0.1:9/") == "connect-src"
    context.close()


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class EntraId:
    """The three answers of Entra ID that a sign-in by authorization code with PKCE needs."""

    def __init__(self):
        self.nonce = None
        self.challenge = None
        self.verifier = None

    def answer(self, route, request):
        path = urlsplit(request.url).path
        if path.endswith("/authorize"):
            self.authorize(route, {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()})
        elif path.endswith("/token"):
            self.verifier = parse_qs(request.post_data)["code_verifier"][0]
            route.fulfill(json=self.tokens(), headers={"access-control-allow-origin": "*"})
        else:
            route.fulfill(status=404, headers={"access-control-allow-origin": "*"})

    def authorize(self, route, asked):
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert f"api://{CLIENT}/user_impersonation" in asked["scope"].split()
        self.nonce, self.challenge = asked["nonce"], asked["code_challenge"]
        back = json.dumps(f"{asked['redirect_uri']}#code=the-code&state={asked['state']}")
        route.fulfill(content_type="text/html", body=f"<script>location.replace({back})</script>")

    def tokens(self):
        now = int(time.time())
        claims = {
            "aud": CLIENT,
            "iss": f"{LOGIN}/{TENANT}/v2.0",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "nonce": self.nonce,
            "oid": "viewer",
            "sub": "viewer",
            "tid": TENANT,
            "ver": "2.0",
            "name": "A viewer",
            "preferred_username": "viewer@example.org",
        }
        return {
            "token_type": "Bearer",
            "scope": f"api://{CLIENT}/user_impersonation",
            "expires_in": 3600,
            "access_token": "the-access-token",
            "refresh_token": "the-refresh-token",
            "id_token": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(claims)}.",
            "client_info": encoded({"uid": "viewer", "utid": TENANT}),
        }


def test_a_viewer_who_signed_in_shows_the_token_to_the_api_alone(page, website, send, system):  # noqa: F811
    entra = EntraId()
    page.context.route(f"{LOGIN}/**", entra.answer)
    asked = []
    page.on("request", lambda request: asked.append((request.url, request.headers.get("authorization"))))
    page.goto(website(READ_ACCESS="entra", ENTRA_CLIENT_ID=CLIENT, AZURE_TENANT_ID=TENANT))
    send('{"temperature": 3.25}')
    expect(value(page)).to_contain_text("3.3")
    expect(status(page)).to_have_attribute("data-state", "live")
    assert entra.verifier is not None
    to_api = {authorization for url, authorization in asked if url.startswith(f"{system.url}/api/")}
    assert to_api == {"Bearer the-access-token"}
    assert not any("the-access-token" in f"{url}{header}" for url, header in asked if not url.startswith(system.url))
    assert "code=" not in page.url
