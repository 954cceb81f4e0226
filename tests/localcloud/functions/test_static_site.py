from pathlib import Path

import pytest
from aiohttp import ClientSession
from yarl import URL

from tests.localcloud.functions.shop import MakeShop


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "dist"
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text("<h1>page</h1>")
    (directory / "assets" / "index-B7x_9kQ2.js").write_text("let a")
    (directory / "robots.txt").write_text("none")
    (tmp_path / "secret.txt").write_text("secret")
    (directory / "link.txt").symlink_to(tmp_path / "secret.txt")
    return directory


@pytest.fixture
async def url(make_shop: MakeShop, serve, site: Path) -> str:
    return await serve(await make_shop(static_dir=site))


async def test_files_are_served_and_hashed_ones_are_cached_for_ever(url: str, client: ClientSession) -> None:
    async with client.get(f"{url}/assets/index-B7x_9kQ2.js") as response:
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Content-Type"] in ("text/javascript", "application/javascript")
    async with client.get(f"{url}/robots.txt") as response:
        assert await response.text() == "none"
        assert response.headers["Cache-Control"] == "no-cache"


async def test_pages_of_the_site_fall_back_to_its_index_and_carry_security_headers(
    url: str, client: ClientSession
) -> None:
    for path in ("/", "/devices/7"):
        async with client.get(url + path) as response:
            assert await response.text() == "<h1>page</h1>"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_an_unchanged_file_is_not_sent_again(url: str, client: ClientSession) -> None:
    async with client.get(f"{url}/robots.txt") as response:
        etag = response.headers["ETag"]
    async with client.get(f"{url}/robots.txt", headers={"If-None-Match": etag}) as response:
        assert response.status == 304


@pytest.mark.parametrize(
    "path",
    ["/..%2fsecret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt", "/link.txt", "/missing.js", "/a%00.txt"],
)
async def test_nothing_outside_the_directory_is_served(url: str, client: ClientSession, path: str) -> None:
    async with client.get(URL(url + path, encoded=True)) as response:
        assert response.status == 404


async def test_functions_come_before_the_site_and_the_prefix_is_theirs(url: str, client: ClientSession) -> None:
    async with client.get(f"{url}/shop/files") as response:
        assert await response.text() == "everything"
    async with client.get(f"{url}/shop/nothing") as response:
        assert response.status == 404


async def test_a_page_that_is_not_built_says_what_runs_and_what_to_do(
    make_shop: MakeShop, serve, client: ClientSession, tmp_path: Path
) -> None:
    url = await serve(await make_shop(static_dir=tmp_path / "dist"))
    async with client.get(f"{url}/") as response:
        text = await response.text()
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "npm run build" in text
    assert "/shop/orders/{id:int}" in text
