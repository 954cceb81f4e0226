"""The page in Debian's Chromium, fed by the official device SDK."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from enviromon.prices import load_prices
from tests.system.sdk import MARKS, connected

pytestmark = [pytest.mark.slow, *MARKS]

AXE = Path(__file__).parents[2] / "dashboard/node_modules/axe-core/axe.min.js"
CHROMIUM = "/usr/bin/chromium"
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-sync"])
        yield launched
        launched.close()


@pytest.fixture(params=["light", "dark"])
def page(browser, system, request):
    # By-passing the content security policy lets axe-core in, and nothing else is injected.
    context = browser.new_context(color_scheme=request.param, bypass_csp=True, base_url=system.url)
    context.set_default_timeout(10_000)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto("/")
    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def send(system):
    with connected(system.device("attic")) as client:
        yield client.send_message


def status(page):
    return page.locator("#status")


def value(page, metric="temperature"):
    return page.locator(f'[data-device-id="attic"] [data-metric="{metric}"]')


def violations(page):
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]


def test_the_page_follows_a_device_through_a_restart_of_the_server(system, page, send):
    expect(page.get_by_text("No devices yet")).to_be_visible()
    assert violations(page) == []

    send('{"temperature": 17.25, "humidity": 0.0}')
    expect(value(page)).to_contain_text("17.3")
    expect(value(page, "humidity")).to_contain_text("0.0")
    expect(status(page)).to_have_attribute("data-state", "live")
    assert violations(page) == []

    system.stop()
    expect(status(page)).to_have_attribute("data-state", "reconnecting", timeout=20_000)
    assert violations(page) == []

    system.start()
    expect(status(page)).to_have_attribute("data-state", "waiting", timeout=30_000)
    send('{"temperature": 18.5}')
    expect(value(page)).to_contain_text("18.5")
    expect(status(page)).to_have_attribute("data-state", "live")
    expect(value(page, "humidity")).to_contain_text("0.0")


def test_a_metric_that_was_never_sent_is_a_gap_and_not_a_zero(page, send):
    send('{"temperature": 0.0}')
    expect(value(page)).to_contain_text("0.0")
    expect(value(page, "pressure")).not_to_contain_text("0")


def test_the_page_keeps_its_own_content_security_policy(browser, system, send):
    context = browser.new_context(base_url=system.url)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.goto("/")
    send('{"temperature": 4.5}')
    expect(value(opened)).to_contain_text("4.5")
    assert complaints == []
    context.close()


FIGURES_ONCE_SHOWN = """async (value) => {
    const frame = () => new Promise(requestAnimationFrame);
    const cell = () => document.querySelector('[data-device-id="attic"] [data-metric="temperature"]');
    while (cell()?.dataset.value !== value) await frame();
    await frame();
    await frame();
    const figures = [...document.querySelectorAll("#figures .figure-number")].map((number) => number.textContent);
    return [cell().querySelector(".main").textContent, ...figures];
}"""


def test_the_figures_change_with_the_table_and_not_a_second_later(page, send):
    for temperature in ("3.5", "-7.25", "12.5"):
        send(f'{{"temperature": {temperature}}}')
        shown, devices, lowest, median, highest, *_ = page.evaluate(FIGURES_ONCE_SHOWN, temperature)
        assert (devices, lowest, median, highest) == ("1", shown, shown, shown)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_says_what_its_pace_would_cost_on_azure(browser, system, send, scheme, width):
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 844}, bypass_csp=True, base_url=system.url
    )
    opened = context.new_page()
    opened.clock.install()
    opened.goto("/")
    for temperature in ("3.5", "4.5", "5.5"):
        send(f'{{"temperature": {temperature}}}')
        expect(value(opened)).to_contain_text(temperature)
    tile = opened.locator("#cost")
    expect(tile).to_be_hidden()
    opened.clock.fast_forward(31_000)
    expect(tile).to_be_visible()
    expect(tile).to_contain_text(re.compile(r"about \$\d+\.\d\d ?a month"))
    expect(tile).to_contain_text("from 1 device to one dashboard")
    expect(tile.get_by_text("Does not fit the free tiers")).to_be_visible()
    tile.locator("summary").click()
    prices = load_prices()
    expect(tile).to_contain_text(f"Prices of {prices.compiled}, {prices.region}, not read from Azure")
    assert violations(opened) == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_what_a_device_calls_itself_is_text_and_never_markup(page, send):
    name = "<img src=x onerror=\"document.title='owned'\">"
    send(json.dumps({"temperature": 1.0, "deviceId": name, "geo": "<script>document.title='owned'</script>"}))
    expect(page.get_by_text(name).first).to_be_visible()
    assert page.locator('img[src="x"]').count() == 0
    assert "owned" not in page.title()
