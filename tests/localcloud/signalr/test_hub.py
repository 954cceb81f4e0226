"""Who is in a hub, a user, a group."""

from typing import NamedTuple

import pytest

from localcloud.signalr.hub import GroupLimitError, Hub


class Member(NamedTuple):
    connection_id: str
    user_id: str | None = None


A, B, C = Member("a", "ann"), Member("b", "bob"), Member("c", "ann")
NOBODY: list[Member] = []


def make_hub(*members: Member) -> Hub[Member]:
    hub: Hub[Member] = Hub(max_groups=3, max_remembered_groups=3, max_remembered_users=2)
    for member in members:
        hub.add(member, 0)
    return hub


def test_members_are_found_by_id_and_by_user() -> None:
    hub = make_hub(A, B, C)
    assert hub.get("b") is B
    assert hub.get("x") is None
    assert hub.everyone() == [A, B, C]
    assert hub.of_user("ann") == [A, C]
    assert hub.of_user("x") == NOBODY


def test_excluded_members_are_left_out() -> None:
    hub = make_hub(A, B, C)
    hub.add_to_group("g", A)
    assert hub.everyone({"a", "c"}) == [B]
    assert hub.of_user("ann", {"a"}) == [C]
    assert hub.of_group("g", {"a"}) == NOBODY


def test_a_member_that_leaves_is_nowhere() -> None:
    hub = make_hub(A, B)
    hub.add_to_group("g", A)
    hub.remove(A)
    hub.remove(A)
    assert hub.everyone() == [B]
    assert hub.of_group("g") == NOBODY
    assert hub.of_user("ann") == NOBODY
    hub.remove(B)
    assert hub.is_empty()


def test_joining_twice_and_leaving_twice_change_nothing() -> None:
    hub = make_hub(A, B)
    hub.add_to_group("g", A)
    hub.add_to_group("g", A)
    assert hub.of_group("g") == [A]
    hub.remove_from_group("g", B)
    hub.remove_from_group("g", A)
    hub.remove_from_group("g", A)
    assert hub.of_group("g") == NOBODY


def test_a_member_can_leave_all_its_groups() -> None:
    hub = make_hub(A, B)
    for group in ("g", "h"):
        hub.add_to_group(group, A)
        hub.add_to_group(group, B)
    hub.remove_from_all_groups(A)
    assert (hub.of_group("g"), hub.of_group("h")) == ([B], [B])


def test_a_members_groups_are_limited() -> None:
    hub = make_hub(A)
    for group in ("1", "2", "3"):
        hub.add_to_group(group, A)
    hub.add_to_group("3", A)
    with pytest.raises(GroupLimitError, match="3 groups"):
        hub.add_to_group("4", A)


def test_a_users_later_connections_join_the_users_groups() -> None:
    hub = make_hub(A)
    hub.add_user_to_group("g", "ann", now=0)
    hub.add(C, 10)
    assert hub.of_group("g") == [A, C]
    assert hub.is_user_in_group("g", "ann", now=10)
    assert not hub.is_user_in_group("g", "bob", now=10)


def test_a_users_membership_expires_for_later_connections() -> None:
    hub = make_hub()
    hub.add_user_to_group("g", "ann", now=0, lifetime=10)
    assert hub.is_user_in_group("g", "ann", now=9)
    hub.add(A, 10)
    assert hub.of_group("g") == NOBODY
    assert not hub.is_user_in_group("g", "ann", now=10)


def test_a_membership_of_no_time_is_for_the_present_connections() -> None:
    hub = make_hub(A)
    hub.add_user_to_group("g", "ann", now=0, lifetime=0)
    hub.add(C, 0)
    assert hub.of_group("g") == [A]


def test_a_user_can_be_taken_out_of_one_group_or_all() -> None:
    hub = make_hub(A)
    for group in ("g", "h", "i"):
        hub.add_user_to_group(group, "ann", now=0)
    hub.remove_user_from_group("g", "ann")
    hub.add(C, 0)
    assert (hub.of_group("g"), hub.of_group("h")) == (NOBODY, [A, C])
    hub.remove_user_from_all_groups("ann")
    assert not any(hub.is_user_in_group(group, "ann", now=0) for group in "ghi")


def test_only_the_newest_groups_and_users_are_remembered() -> None:
    hub = make_hub()
    for group in ("1", "2", "3", "1", "4"):
        hub.add_user_to_group(group, "ann", now=0)
    assert [group for group in "1234" if hub.is_user_in_group(group, "ann", now=0)] == ["1", "3", "4"]
    hub.add_user_to_group("g", "bob", now=0)
    hub.add_user_to_group("g", "carl", now=0)
    assert not hub.is_user_in_group("1", "ann", now=0)


def test_a_hub_that_remembers_nobody_any_more_is_empty() -> None:
    hub = make_hub()
    hub.add_user_to_group("g", "ann", now=0, lifetime=1)
    assert not hub.is_empty()
    assert not hub.is_user_in_group("g", "ann", now=1)
    assert hub.is_empty()
