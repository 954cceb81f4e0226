"""The three transports: WebSocket, server-sent events, long polling. Each gives a connection its channel."""

import asyncio


def abort_later(transport: asyncio.Transport, seconds: float) -> None:
    """Give a transport that is being closed as long to send its rest; a peer that reads nothing would hold it forever.

    Aborting a transport that has closed does nothing.
    """
    asyncio.get_running_loop().call_later(seconds, transport.abort)
