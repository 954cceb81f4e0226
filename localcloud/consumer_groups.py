"""The consumer groups of a data directory's event log: what the operator sees of them, and how one is removed.

A group is registered when a function first reads by its name, and stays when the function is gone or reads by another:
nothing tells a function that was removed from one that is away. Meanwhile the log keeps every event for it, up to its
size. Works beside the running cloud, in a process of its own.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from localcloud.data_directory import read_running
from localcloud.iothub.checkpoints import Checkpoints
from localcloud.iothub.event_files import BlockReader
from localcloud.iothub.event_log import DEFAULT_PARTITIONS


class ConsumerGroupError(Exception):
    """What was asked cannot be done with the consumer groups as they are; the operator must act."""


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """How far a group is in one partition.

    `checkpoint` is the sequence number of the last event that it has finished, -1 before the first; `lag` is how many
    events were appended after it.
    """

    partition: int
    checkpoint: int
    lag: int


class ConsumerGroup(msgspec.Struct, frozen=True, rename="camel"):
    """A name by which the log is read.

    `read_by` is the function of the running app that reads by it; None where none does, or nothing runs.
    """

    name: str
    read_by: str | None
    partitions: list[Progress]


def consumer_groups(data: Path) -> list[ConsumerGroup]:
    """Return the registered groups by name. Raises ConsumerGroupError where there is no log, OSError, sqlite3.Error."""
    with _opened(data) as (reader, checkpoints):
        groups, ends = checkpoints.groups(), reader.ends()
    readers = (read_running(data) or {}).get("consumerGroups", {})
    return [
        ConsumerGroup(
            name,
            readers.get(name),
            [Progress(partition, last, max(0, ends[partition] - 1 - last)) for partition, last in positions.items()],
        )
        for name, positions in groups.items()
    ]


def remove_consumer_group(data: Path, name: str) -> None:
    """Forget a group that no function of the running app reads.

    Asked for again, it would start with the oldest event that is left. A cloud must run: it alone tells who reads.
    Raises ConsumerGroupError where none runs, where the group is read or unknown; OSError, sqlite3.Error.
    """
    # A cloud that starts registers its groups before it says that it runs: it waits here until this is decided.
    with _opened(data) as (_, checkpoints), checkpoints.nobody_registers():
        running = read_running(data)
        if running is None:
            raise ConsumerGroupError(
                f"nothing runs on {data}, so that nobody can tell which consumer groups are read: start it first"
            )
        function = running["consumerGroups"].get(name)
        if function is not None:
            raise ConsumerGroupError(f"the function {function} reads by consumer group {name!r}: it is needed")
        if not checkpoints.remove(name):
            known = ", ".join(map(repr, checkpoints.groups()))
            raise ConsumerGroupError(f"there is no consumer group {name!r}, only {known}")


@contextmanager
def _opened(data: Path) -> Iterator[tuple[BlockReader, Checkpoints]]:
    if not (data / "events.db").exists():
        raise ConsumerGroupError(f"there is no event log at {data} yet: start its cloud first, or name another")
    with ExitStack() as opened:
        reader = BlockReader(data / "events.db", DEFAULT_PARTITIONS)
        opened.callback(reader.close)
        checkpoints = Checkpoints(data / "checkpoints.db", reader.log_id, reader.partitions)
        opened.callback(checkpoints.close)
        yield reader, checkpoints
