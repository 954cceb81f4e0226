"""Every fuzz target with hypothesis, for a bounded time; what atheris finds stands in `FOUND` as a regression test."""

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localcloud.signalr.conversation import Conversation
from tests.fuzz.corpus import CORPUS
from tests.fuzz.targets import MESSAGE_LIMIT, TARGETS

FOUND: list[tuple[str, bytes]] = [
    ("jwts", b"eyJleHAiOjFlMzA5fQ"),
    ("http_headers", b"http://["),
    ("http_headers", b"%A"),
]


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_break_a_target(name: str) -> None:
    seeds = CORPUS[name]

    @settings(max_examples=settings.default.max_examples * 3 // 2, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=400), st.builds(mutated, st.sampled_from(seeds), st.integers(0, 1 << 32))))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    for seed in seeds:
        TARGETS[name](seed)
    run()


def mutated(seed: bytes, number: int) -> bytes:
    """Damage a valid input in up to four places: bits, cuts, repeats."""
    chance, data = random.Random(number), bytearray(seed)
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(4)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at : at + chance.randrange(1, 9)]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randrange(1, 33)] * chance.randrange(1, 5)
        else:
            data[at:at] = chance.randbytes(chance.randrange(1, 5))
    return bytes(data)


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_stays_mended(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("handshake", "record"),
    [
        (b'{"protocol":"messagepack","version":1}\x1e', b"\x02\x91\x06"),
        (b'{"protocol":"json","version":1}\x1e', b'{"type":6}\x1e'),
    ],
)
def test_many_small_records_cost_linear_time(handshake: bytes, record: bytes) -> None:
    """Each used to copy all that followed it: four times the records, sixteen times the time."""

    def seconds(count: int) -> float:
        conversation = Conversation(MESSAGE_LIMIT)
        list(conversation.feed(handshake))
        data, start = record * count, time.process_time()
        list(conversation.feed(data))
        return time.process_time() - start

    seconds(1000)
    assert min(seconds(80_000) for _ in range(3)) < 8 * min(seconds(20_000) for _ in range(3)) + 0.02
