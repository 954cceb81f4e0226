"""Refusals in the form of Azure SignalR Service, and bodies that may not be endless."""

import asyncio
from functools import cache
from http import HTTPStatus

import msgspec
from aiohttp import web


def refusal(status: HTTPStatus, message: str) -> web.HTTPException:
    """Make an exception that answers a status with the service's ErrorDetail, `{code, message}`."""
    code = status.phrase.title().replace(" ", "")
    text = msgspec.json.encode({"code": code, "message": message}).decode()
    return _refusal_class(status)(text=text, content_type="application/json")


@cache
def _refusal_class(status: HTTPStatus) -> type[web.HTTPException]:
    return type("Refusal", (web.HTTPException,), {"status_code": status})


async def read_body(request: web.Request, *, max_bytes: int, seconds: float) -> bytes:
    """Read a request's body. Raises the refusals 413 and 408."""
    body = bytearray()
    size = request.content_length or 0
    try:
        async with asyncio.timeout(seconds):
            while size <= max_bytes:
                chunk = await request.content.readany()
                if not chunk:
                    return bytes(body)
                body += chunk
                size = len(body)
    except TimeoutError:
        raise refusal(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {seconds} s") from None
    raise refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {max_bytes} bytes")
