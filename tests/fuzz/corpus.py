"""Valid inputs to start from, by target."""

import json

from localcloud.iothub import sas
from localcloud.signalr.tokens import make_token
from tests.localcloud.iothub import mqtt

EVENTS = "devices/d1/messages/events/"
CUTS = b"\x03\x20\x80\xe0"
STREAMS = [
    mqtt.connect("d1", "localhost/d1/?api-version=2021-04-12", "hunter2", will=(EVENTS, b"bye", 1, True)),
    mqtt.connect("no"),
    mqtt.connect() + mqtt.publish(EVENTS + "%24.mid=1&a=b", b'{"temperature":1}', 1) + mqtt.PINGREQ + mqtt.DISCONNECT,
    mqtt.connect() + mqtt.subscribe(1, ("$iothub/twin/res/#", 1)) + mqtt.publish("$iothub/twin/GET/?$rid=7", b"", 2),
    mqtt.connect() + mqtt.unsubscribe(3, "a/#", "b") + b"\x40\x02\x00\x01" + mqtt.publish(EVENTS, b"x" * 300, 3),
    mqtt.connect() + mqtt.PINGREQ * 300 + mqtt.publish(EVENTS, b"", 4),
]
READINGS: list[object] = [
    {"deviceId": "d1", "temperature": 21.5, "humidity": 40, "pressure": 1013, "light": 3, "messageId": 7},
    {"Celsius": -3, "hPa": 990.5, "Geo": "here", "Id": "a", "timestamp": "2026-01-01T00:00:00Z"},
    [{"temperature": 1}, {"temperature": "x"}, 7],
    {"temperature": 1e308, "timestamp": 1_767_225_600_000, "other": {"deep": [[[]]]}},
]
CORPUS: dict[str, list[bytes]] = {
    "mqtt_packets": [CUTS + stream for stream in STREAMS],
    "mqtt_session": [CUTS + stream for stream in STREAMS],
    "topics_and_bags": [b"%24.mid=m-1&%24.ct=application%2Fjson&a=b%26c", b"$iothub/twin/GET/?$rid=1", EVENTS.encode()],
    "telemetry": [*(json.dumps(reading).encode() for reading in READINGS), b"[]", b"[[" * 600],
    "sas_tokens": [sas.make_token("localhost/devices/d1", "a" * 44, 99, "owner").encode()],
    "jwts": [make_token("another", "http://localhost/client/?hub=chat", now=0, user_id="ann").encode()],
    "signalr_frames": [
        CUTS + b'{"protocol":"json","version":1}\x1e{"type":6}\x1e{"type":7}\x1e',
        CUTS + b"\x02\x91\x06" * 9 + b"\x04\x93\x07\xc0\xc3",
    ],
    "signalr_payloads": [b'{"target":"newMessage","arguments":[{"a":1.5,"b":[null,"\\u001e"]},18446744073709551616]}'],
    "http_headers": [b"http://localhost:7071", b"[::1]:80", b"user@host:1/x?y#z", b"null"],
}  # fmt: skip
