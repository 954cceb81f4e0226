"""Which worker runs which partitions of the event hubs. Pure.

Rules:
1. A partition is granted to one worker at a time: to another only once its worker reported that it let go of it, or
   left (its process ended, or said nothing for too long).
2. Workers hold as many as one another, give or take one, with the fewest moves.
3. A lease is for efficiency. A worker that was believed to have left and has not may still run a partition for a while:
   functions must bear that, as they must in Azure.
"""

from collections.abc import Collection, Iterable, Mapping


class Leases:
    """The leases on a number of partitions; `grants` tells what each worker should run now."""

    def __init__(self, partitions: int) -> None:
        self._holders: dict[int, str | None] = dict.fromkeys(range(partitions))
        self._grants: dict[str, frozenset[int]] = {}

    @property
    def grants(self) -> Mapping[str, frozenset[int]]:
        """The partitions by worker; those that it must let go of are no longer among them."""
        return self._grants

    def holder(self, partition: int) -> str | None:
        """Return who runs the partition, or may still do so."""
        return self._holders[partition]

    def join(self, worker: str) -> None:
        """Count on a new worker."""
        self._grants[worker] = frozenset()
        self._balance()

    def leave(self, worker: str) -> None:
        """Count on a worker no longer; its partitions are free at once."""
        self._grants.pop(worker, None)
        self._free(partition for partition, holder in self._holders.items() if holder == worker)

    def report(self, worker: str, running: Collection[int]) -> None:
        """Take note of what a worker runs: what it was to let go of and does not run any more is free."""
        granted = self._grants.get(worker, frozenset())
        self._free(
            partition
            for partition, holder in self._holders.items()
            if holder == worker and partition not in granted and partition not in running
        )

    def _free(self, partitions: Iterable[int]) -> None:
        for partition in list(partitions):
            self._holders[partition] = None
        self._balance()

    def _balance(self) -> None:
        if not self._grants:
            return
        held = {worker: sorted(self._held_by(worker)) for worker in self._grants}
        least, more = divmod(len(self._holders), len(held))
        free = sorted(partition for partition, holder in self._holders.items() if holder is None)
        for rank, worker in enumerate(sorted(held, key=lambda name: (-len(held[name]), name))):
            share = least + (rank < more)
            kept = held[worker][:share]
            while free and len(kept) < share:
                partition = free.pop(0)
                self._holders[partition] = worker
                kept.append(partition)
            self._grants[worker] = frozenset(kept)

    def _held_by(self, worker: str) -> list[int]:
        return [partition for partition, holder in self._holders.items() if holder == worker]
