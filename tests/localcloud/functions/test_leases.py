"""Leases on partitions: one holder each, evenly spread, moved only through a report."""

from hypothesis import given
from hypothesis import strategies as st

from localcloud.functions.leases import Leases


def sizes(leases: Leases) -> list[int]:
    return sorted(len(partitions) for partitions in leases.grants.values())


def settle(leases: Leases) -> None:
    """Let every worker do what it is told, and say so."""
    for _ in range(3):
        for worker, partitions in dict(leases.grants).items():
            leases.report(worker, partitions)


def test_the_first_worker_gets_everything_and_a_second_only_what_the_first_has_let_go_of() -> None:
    leases = Leases(4)
    leases.join("a")
    assert leases.grants == {"a": {0, 1, 2, 3}}
    leases.join("b")
    assert leases.grants == {"a": {0, 1}, "b": set()}
    leases.report("a", {0, 1, 2, 3})
    assert leases.grants["b"] == set(), "a still runs them"
    leases.report("a", {0, 1, 3})
    assert leases.grants["b"] == {2}
    leases.report("a", {0, 1})
    assert leases.grants == {"a": {0, 1}, "b": {2, 3}}


def test_what_a_dead_worker_held_is_free_at_once() -> None:
    leases = Leases(4)
    for worker in "ab":
        leases.join(worker)
    settle(leases)
    leases.leave("a")
    assert leases.grants == {"b": {0, 1, 2, 3}}
    leases.leave("b")
    assert leases.grants == {}
    leases.join("c")
    assert leases.grants == {"c": {0, 1, 2, 3}}


def test_a_worker_is_not_taken_at_its_word_for_what_it_was_never_granted() -> None:
    leases = Leases(2)
    leases.join("a")
    leases.report("stranger", {0, 1})
    assert leases.grants == {"a": {0, 1}}


events = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "report all", "report grants"]), st.sampled_from("abcd")), max_size=25
)


@given(st.integers(1, 9), events)
def test_a_partition_never_has_two_holders_and_in_the_end_all_are_spread_evenly(partitions: int, steps: list) -> None:
    leases = Leases(partitions)
    running: dict[str, set[int]] = {}
    for step, worker in steps:
        if step == "join" and worker not in running:
            running[worker] = set()
            leases.join(worker)
        elif step == "leave" and running.pop(worker, None) is not None:
            leases.leave(worker)
        elif step == "report all" and worker in running:
            leases.report(worker, running[worker])
        elif step == "report grants" and worker in running:
            running[worker] = set(leases.grants[worker])
            leases.report(worker, running[worker])
        for one in running:
            running[one] |= leases.grants[one]  # a worker starts at once what it is granted
        held = [partition for its in running.values() for partition in its]
        assert len(held) == len(set(held))
    settle(leases)
    if running:
        assert sum(sizes(leases)) == partitions
        assert sizes(leases)[-1] - sizes(leases)[0] <= 1


@given(st.integers(1, 12), st.integers(1, 5))
def test_a_new_worker_moves_no_more_than_its_share(partitions: int, workers: int) -> None:
    leases = Leases(partitions)
    for number in range(workers):
        leases.join(str(number))
        settle(leases)
    before = {partition: leases.holder(partition) for partition in range(partitions)}
    leases.join("new")
    settle(leases)
    moved = [partition for partition in before if leases.holder(partition) != before[partition]]
    assert len(moved) == len(leases.grants["new"])
