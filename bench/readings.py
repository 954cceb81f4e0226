"""Bodies as a sensor sends them: about 130 bytes, each value drifting by itself, so they compress as real ones do."""

import json
import random
from collections.abc import Iterator

EPOCH_MS = 1_767_225_600_000


def bodies(device: str, seed: int, *, timestamps: bool = True) -> Iterator[bytes]:
    """Yield one device's readings, one per second of its own clock, for ever; the same for the same seed."""
    rng = random.Random(seed)
    temperature, humidity, pressure, light = rng.uniform(15, 28), rng.uniform(30, 70), rng.uniform(990, 1030), 300.0
    number = 0
    while True:
        temperature += rng.gauss(0, 0.05)
        humidity = min(max(humidity + rng.gauss(0, 0.2), 0), 100)
        pressure += rng.gauss(0, 0.03)
        light = max(light + rng.gauss(0, 4), 0)
        number += 1
        reading = {
            "messageId": number,
            "deviceId": device,
            **({"timestamp": EPOCH_MS + number * 1000 + rng.randrange(40)} if timestamps else {}),
            "temperature": round(temperature, 2),
            "humidity": round(humidity, 1),
            "pressure": round(pressure, 2),
            "light": round(light),
        }
        yield json.dumps(reading, separators=(",", ":")).encode()
