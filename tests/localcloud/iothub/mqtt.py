"""The client's side of MQTT 3.1.1, as tests send it; written apart from localcloud.iothub.packets on purpose."""

import asyncio
import contextlib
import ssl
import struct


def packet(first: int, body: bytes = b"") -> bytes:
    length, header = len(body), bytes((first,))
    while True:
        header += bytes((length & 127 | (128 if length > 127 else 0),))
        length >>= 7
        if not length:
            return header + body


def text(value: str | bytes) -> bytes:
    encoded = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(encoded)) + encoded


def connect(
    client_id: str = "d1",
    username: str | None = None,
    password: str | None = None,
    *,
    clean: bool = False,
    keepalive: int = 60,
    will: tuple[str, bytes, int, bool] | None = None,
) -> bytes:
    flags = (2 if clean else 0) | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = text(client_id)
    if will:
        flags |= 4 | will[2] << 3 | (0x20 if will[3] else 0)
        body += text(will[0]) + text(will[1])
    body += b"".join(text(field) for field in (username, password) if field is not None)
    return packet(0x10, text("MQTT") + bytes((4, flags)) + struct.pack(">H", keepalive) + body)


def publish(topic: str | bytes, payload: bytes, packet_id: int = 0, *, qos: int | None = None, flags: int = 0) -> bytes:
    qos = (1 if packet_id else 0) if qos is None else qos
    number = struct.pack(">H", packet_id) if qos else b""
    return packet(0x30 | qos << 1 | flags, text(topic) + number + payload)


def subscribe(packet_id: int, *filters: tuple[str, int]) -> bytes:
    return packet(0x82, struct.pack(">H", packet_id) + b"".join(text(name) + bytes((qos,)) for name, qos in filters))


def unsubscribe(packet_id: int, *filters: str) -> bytes:
    return packet(0xA2, struct.pack(">H", packet_id) + b"".join(map(text, filters)))


PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


class Client:
    """A device on a real socket that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext | None = None) -> "Client":
        name = "localhost" if context else None
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name))

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def receive(self) -> bytes:
        """Return the next whole packet, b"" where the hub has closed."""
        async with asyncio.timeout(10):
            try:
                first = await self.reader.readexactly(2)
                assert first[1] < 128
                return first + await self.reader.readexactly(first[1])
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""

    async def ask(self, *data: bytes) -> bytes:
        self.send(*data)
        return await self.receive()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
