"""When a connection needs a ping and when it is dead, without a clock of its own.

Traffic only raises flags; a sweep, about once a second, turns them into times. So a broadcast to a thousand clients
reads no clock, and every time here is exact to one sweep.
"""

import enum


class Due(enum.Enum):
    """What a sweep finds that someone must do."""

    NOTHING = enum.auto()
    PING = enum.auto()
    END = enum.auto()


class Liveness:
    """The signs of life of one connection: raise `heard` when something came, `spoke` when something went."""

    __slots__ = ("_last_heard", "_last_spoke", "heard", "spoke")

    def __init__(self, now: float) -> None:
        self.heard = self.spoke = False
        self._last_heard = self._last_spoke = now

    def sweep(self, now: float, *, ping_after: float, end_after: float) -> Due:
        """Say what is due where nothing was sent for `ping_after` seconds, or nothing came for `end_after`."""
        if self.heard:
            self.heard, self._last_heard = False, now
        if self.spoke:
            self.spoke, self._last_spoke = False, now
        if now - self._last_heard >= end_after:
            return Due.END
        return Due.PING if now - self._last_spoke >= ping_after else Due.NOTHING
