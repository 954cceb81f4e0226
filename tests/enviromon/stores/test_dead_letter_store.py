"""The contract of DeadLetterStore."""

import pytest
from msgspec import structs

from enviromon.stores import DeadLetter, each

LETTER = DeadLetter(
    reason="json",
    detail="the body is not JSON",
    device_id="d1",
    stream="namespace/hub/3",
    sequence=2**53,
    index=999,
    enqueued_time=1_795_478_400_000,
    body=bytes(range(256)),
    created="2026-11-24T00:00:00Z",
)


async def letters(stores, size=1000):
    return [letter async for letter in each(lambda after: stores.dead_letters.page(after, size))]


async def test_a_letter_comes_back_as_it_was_sent(stores):
    await stores.dead_letters.add([LETTER])
    assert await letters(stores) == [LETTER]


@pytest.mark.parametrize("size", [0, 65_536, 262_144])
async def test_bodies_of_every_size_are_kept(stores, size):
    letter = structs.replace(LETTER, body=b"\xff" * size)
    await stores.dead_letters.add([letter])
    assert await letters(stores) == [letter]


async def test_adding_a_letter_again_changes_nothing(stores):
    await stores.dead_letters.add([LETTER])
    await stores.dead_letters.add([LETTER, structs.replace(LETTER, body=b"other", detail="other")])
    assert await letters(stores) == [LETTER]


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "value"},
        {"device_id": "d2"},
        {"stream": "namespace/hub/4"},
        {"sequence": 1},
        {"index": 1},
        {"enqueued_time": 1_795_478_400_001},
    ],
)
async def test_another_key_is_another_letter(stores, change):
    await stores.dead_letters.add([LETTER, structs.replace(LETTER, **change)])
    assert len(await letters(stores)) == 2


async def test_pages_tell_every_letter_once(stores):
    sent = [structs.replace(LETTER, sequence=number, enqueued_time=number) for number in range(23)]
    await stores.dead_letters.add(sent)
    assert await letters(stores, 5) == sent


async def test_no_letters_are_no_error(stores):
    await stores.dead_letters.add([])
    assert await letters(stores) == []


async def test_a_removed_letter_is_gone_and_its_neighbours_stay(stores):
    others = [structs.replace(LETTER, reason="value"), structs.replace(LETTER, index=1000)]
    await stores.dead_letters.add([LETTER, *others])
    for _ in range(2):
        await stores.dead_letters.remove([structs.replace(LETTER, body=b"other", detail="other")])
        assert await letters(stores) == others
    await stores.dead_letters.add([LETTER])
    assert len(await letters(stores)) == 3


async def test_many_letters_are_removed_at_once(stores):
    sent = [structs.replace(LETTER, sequence=number, body=b"") for number in range(4001)]
    await stores.dead_letters.add(sent)
    await stores.dead_letters.remove(sent[1:])
    assert await letters(stores) == sent[:1]
    await stores.dead_letters.remove([])
