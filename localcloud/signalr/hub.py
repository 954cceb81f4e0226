"""Who is in a hub: connections, users and groups, without sockets or clocks.

The rules, as Azure SignalR Service has them in serverless mode:
1. A user may have many connections; a connection may be in many groups, up to a limit.
2. A user who is put into a group is remembered there: the user's later connections join it too, until the membership
   expires or is taken back. Only the newest groups of a user, and the newest users, are remembered.
3. Putting someone into a group twice, or removing someone who is not in it, changes nothing.
"""

from collections.abc import Collection, Iterable
from typing import Generic, Protocol, TypeVar

FOREVER = float("inf")


class GroupLimitError(Exception):
    """The connection is in as many groups as it may be."""


class Member(Protocol):
    """A connection, as far as a hub knows it."""

    @property
    def connection_id(self) -> str:
        """The public id, unique in the hub."""

    @property
    def user_id(self) -> str | None:
        """The user whose connection this is, or None."""


M = TypeVar("M", bound=Member)


class Hub(Generic[M]):
    """The members of one hub. Times are in seconds of one clock, which the caller reads."""

    def __init__(self, *, max_groups: int, max_remembered_groups: int, max_remembered_users: int) -> None:
        self._max_groups = max_groups
        self._max_remembered_groups = max_remembered_groups
        self._max_remembered_users = max_remembered_users
        self._members: dict[str, M] = {}
        self._users: dict[str, dict[str, M]] = {}
        self._groups: dict[str, dict[str, M]] = {}
        self._groups_of: dict[str, set[str]] = {}
        self._remembered: dict[str, dict[str, float]] = {}

    def is_empty(self) -> bool:
        """Say whether nothing would be lost with this hub."""
        return not self._members and not self._remembered

    def add(self, member: M, now: float) -> None:
        """Let a member in, and into the groups of its user."""
        self._members[member.connection_id] = member
        self._groups_of[member.connection_id] = set()
        if member.user_id is not None:
            self._users.setdefault(member.user_id, {})[member.connection_id] = member
            for group in self._remembered_groups(member.user_id, now):
                self._join(group, member)

    def remove(self, member: M) -> None:
        """Forget a member; one that is not here is no error."""
        if self._members.pop(member.connection_id, None) is None:
            return
        self.remove_from_all_groups(member)
        del self._groups_of[member.connection_id]
        if member.user_id is not None:
            _discard(self._users, member.user_id, member)

    def get(self, connection_id: str) -> M | None:
        """Find a member by its public id."""
        return self._members.get(connection_id)

    def everyone(self, excluded: Collection[str] = ()) -> list[M]:
        """List all members but those with the excluded ids; a copy, so that members may leave meanwhile."""
        return _without(self._members, excluded)

    def of_user(self, user_id: str, excluded: Collection[str] = ()) -> list[M]:
        """List a user's members likewise."""
        return _without(self._users.get(user_id, {}), excluded)

    def of_group(self, group: str, excluded: Collection[str] = ()) -> list[M]:
        """List a group's members likewise."""
        return _without(self._groups.get(group, {}), excluded)

    def add_to_group(self, group: str, member: M) -> None:
        """Put a member into a group. Raises GroupLimitError."""
        groups = self._groups_of[member.connection_id]
        if len(groups) >= self._max_groups and group not in groups:
            raise GroupLimitError(f"a connection may be in {self._max_groups} groups")
        self._join(group, member)

    def remove_from_group(self, group: str, member: M) -> None:
        """Take a member out of a group."""
        self._groups_of[member.connection_id].discard(group)
        _discard(self._groups, group, member)

    def remove_from_all_groups(self, member: M) -> None:
        """Take a member out of every group."""
        for group in tuple(self._groups_of[member.connection_id]):
            self.remove_from_group(group, member)

    def add_user_to_group(self, group: str, user_id: str, *, now: float, lifetime: float = FOREVER) -> None:
        """Put a user's members, present and (for `lifetime` seconds) future, into a group. Raises GroupLimitError."""
        for member in self.of_user(user_id):
            self.add_to_group(group, member)
        if lifetime > 0:
            self._remember(user_id, group, now + lifetime)

    def remove_user_from_group(self, group: str, user_id: str) -> None:
        """Take a user's members out of a group, and the user's later ones."""
        for member in self.of_user(user_id):
            self.remove_from_group(group, member)
        remembered = self._remembered.get(user_id, {})
        if remembered.pop(group, None) is not None and not remembered:
            del self._remembered[user_id]

    def remove_user_from_all_groups(self, user_id: str) -> None:
        """Take a user's members out of every group, and the user's later ones."""
        for member in self.of_user(user_id):
            self.remove_from_all_groups(member)
        self._remembered.pop(user_id, None)

    def is_user_in_group(self, group: str, user_id: str, now: float) -> bool:
        """Say whether a member of the user is in the group, or a later one would be."""
        if any(group in self._groups_of[member.connection_id] for member in self.of_user(user_id)):
            return True
        return group in self._remembered_groups(user_id, now)

    def _join(self, group: str, member: M) -> None:
        self._groups.setdefault(group, {})[member.connection_id] = member
        self._groups_of[member.connection_id].add(group)

    def _remember(self, user_id: str, group: str, until: float) -> None:
        groups = self._remembered.pop(user_id, {})
        groups.pop(group, None)
        groups[group] = until
        self._remembered[user_id] = groups
        _drop_oldest(groups, self._max_remembered_groups)
        _drop_oldest(self._remembered, self._max_remembered_users)

    def _remembered_groups(self, user_id: str, now: float) -> Iterable[str]:
        groups = self._remembered.get(user_id, {})
        for group in [group for group, until in groups.items() if until <= now]:
            del groups[group]
        if not groups:
            self._remembered.pop(user_id, None)
        return list(groups)


V = TypeVar("V")


def _without(members: dict[str, M], excluded: Collection[str]) -> list[M]:
    if not excluded:
        return list(members.values())
    return [member for connection_id, member in members.items() if connection_id not in excluded]


def _discard(index: dict[str, dict[str, M]], key: str, member: M) -> None:
    members = index.get(key)
    if members is not None and members.pop(member.connection_id, None) is not None and not members:
        del index[key]


def _drop_oldest(entries: dict[str, V], most: int) -> None:
    while len(entries) > most:
        del entries[next(iter(entries))]
