"""The client's side of MQTT 3.1.1, as tests send it; written apart from localcloud.iothub.packets on purpose."""

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
