"""Refusals in the form of Azure SignalR Service, and bodies that may not be endless."""

import asyncio
from http import HTTPStatus

import msgspec
from aiohttp import web


def refusal(status: HTTPStatus, message: str) -> web.HTTPException:
    """Make an exception that answers a status with the service's ErrorDetail, `{code, message}`."""
    code = status.phrase.title().replace(" ", "")

    class Refusal(web.HTTPException):
        status_code = status

    return Refusal(
        text=msgspec.json.encode({"code": code, "message": message}).decode(), content_type="application/json"
    )


async def read_body(request: web.Request, *, max_bytes: int, seconds: float) -> bytes:
    """Read a request's body. Raises the refusals 413 and 408."""
    too_large = refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {max_bytes} bytes")
    if (request.content_length or 0) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise refusal(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {seconds} s") from None
    return bytes(body)
