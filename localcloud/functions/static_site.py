"""Serves a built single page site from a directory: its files, and index.html for the page's own addresses.

Rules: nothing outside the directory; files with a hash in their name (Vite's `assets/name-hash.ext`) are cached for
ever, everything else is asked for anew; every answer carries the security headers.
"""

import asyncio
import html
import re
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

_HASHED = re.compile(r"assets/.+-[A-Za-z0-9_-]{8,}\.\w+")
_IMMUTABLE = "public, max-age=31536000, immutable"
DEFAULT_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' http: https: ws: "
    "wss:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def security_headers(content_security_policy: str) -> dict[str, str]:
    """Return the headers that every page of the site carries."""
    return {
        "Content-Security-Policy": content_security_policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


class StaticSite:
    """The files under `directory`, which need not exist yet."""

    def __init__(self, directory: Path, content_security_policy: str) -> None:
        self._directory = directory.resolve()
        self._headers = security_headers(content_security_policy)

    async def response(self, path: str) -> web.StreamResponse | None:
        """Return what to answer for a decoded path without its leading slash; None where there is nothing."""
        file = await asyncio.to_thread(self._find, path)
        if file is None:
            return None
        hashed = _HASHED.fullmatch(file.relative_to(self._directory).as_posix())
        return web.FileResponse(file, headers={**self._headers, "Cache-Control": _IMMUTABLE if hashed else "no-cache"})

    def _find(self, path: str) -> Path | None:
        if "\0" in path:
            return None
        try:
            file = (self._directory / path).resolve()
            if file.is_relative_to(self._directory) and file.is_file():
                return file
        except (OSError, UnicodeEncodeError):  # a name that is too long, or that no file can have
            return None
        index = self._directory / "index.html"
        is_page = "." not in path.rpartition("/")[2]
        return index if is_page and index.is_file() else None


def plain_page(urls: Sequence[tuple[str, str]], missing: Path | None, content_security_policy: str) -> web.Response:
    """Return the page for "/" where no site is built: what runs here, and what to do for the site."""
    rows = "".join(f"<li><code>{html.escape(methods)} {html.escape(url)}</code></li>" for methods, url in urls)
    hint = (
        f"<p>The page is not built: there is no <code>{html.escape(str(missing / 'index.html'))}</code>. "
        "Build it (<code>npm ci &amp;&amp; npm run build</code> in its source) and load this page again.</p>"
        if missing
        else ""
    )
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Functions host</title>'
        "<style>body{font:1rem/1.5 system-ui;max-width:50rem;margin:3rem auto;padding:0 1rem;"
        "color-scheme:light dark}</style>"
        f"<h1>The functions host is running</h1>{hint}<h2>HTTP functions</h2><ul>{rows}</ul></html>"
    )
    headers = {**security_headers(content_security_policy), "Cache-Control": "no-store"}
    return web.Response(text=text, content_type="text/html", headers=headers)
