"""What becomes of a state that is brought to a store which may have one already. Pure.

Rules:
1. A state that includes the other knows all that the other knows: it read every stream at least as far, and counted at
   least as much. Of two that include each other the one with the higher revision is the newer.
2. The newer state stays, or comes in place of the older. Two of which neither includes the other have gone different
   ways; one of them would be lost: that is for people to decide.
3. Positions are carried along as they are. They belong to their streams (namespace, hub, partition), whose names are
   never given twice: on another hub they say nothing and harm nothing, on the same hub they go on holding.
"""

from enum import StrEnum

from msgspec import Struct, structs

from enviromon.device_state import DeviceState


class Fate(StrEnum):
    """What an import comes to for one record."""

    WRITTEN = "written"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    NEWER = "kept, newer here"
    REFUSED = "refused, different here"
    PRESENT = "here now"
    """A dead letter, whether it came now or was here before: its store does not tell."""


class Merged(Struct, frozen=True):
    """The fate of a brought state, and the state to be written, None where nothing is."""

    fate: Fate
    state: DeviceState | None = None


def merged(held: DeviceState | None, brought: DeviceState, *, overwrite: bool) -> Merged:
    """Decide; `overwrite` brings the state in whatever is there. The revision never falls, as pages merge by it."""
    if held is None:
        return Merged(Fate.WRITTEN, structs.replace(brought, revision=max(brought.revision, 1)))
    if _content(held) == _content(brought):
        return Merged(Fate.UNCHANGED)
    older, newer = includes(brought, held), includes(held, brought)
    if older and newer:
        older, newer = brought.revision > held.revision, held.revision >= brought.revision
    if older or overwrite:
        return Merged(Fate.REPLACED, structs.replace(brought, revision=max(brought.revision, held.revision + 1)))
    return Merged(Fate.NEWER if newer else Fate.REFUSED)


def includes(one: DeviceState, other: DeviceState) -> bool:
    """Tell whether `one` knows all that `other` knows."""
    return (
        one.ledger.received >= other.ledger.received
        and one.ledger.count >= other.ledger.count
        and one.baseline >= other.baseline
        and all(
            stream in one.positions and one.positions[stream].covers(position)
            for stream, position in other.positions.items()
        )
    )


def _content(state: DeviceState) -> DeviceState:
    return structs.replace(state, revision=0)
