"""What shall go wrong, where, how often: a faults file, read and checked. Pure.

**Chance**: each fault has its own random numbers, made of the plan's seed and its place in the file. So the n-th time
that a fault might strike comes out the same in every run, whatever the other faults do.
"""

import random
import tomllib
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from localcloud.faults.tiers import Tier

Point = Literal[
    "append.begins",
    "append.ended",
    "read.begins",
    "function.begins",
    "function.returned",
    "output.begins",
    "output.sent",
    "checkpoint.begins",
    "checkpoint.ended",
]
"""In the order in which an event meets them; the docs say of each what is durable by then."""

Action = Literal["fail", "time_out", "delay", "exit", "duplicate", "redeliver"]

EVERYWHERE = frozenset({"fail", "time_out", "delay", "exit"})
ONLY_AT: Mapping[str, str] = {"duplicate": "append.begins", "redeliver": "read.begins"}

Probability = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]


class FaultPlanError(Exception):
    """A faults file is not acceptable; its author must act on the sentence."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[fault]]`."""

    point: Point
    action: Action
    probability: Probability = 1.0
    """That it strikes when it might."""
    skip: Count = 0
    """How many times it lets pass first."""
    times: Count | None = None
    """How often it strikes at most in one process."""
    run: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """How often in a row it strikes once it does: an outage."""
    seconds: Seconds = 1.0
    """How long `delay` and `time_out` take."""
    events: Annotated[int, Meta(ge=1, le=100_000)] = 10
    """How many events `redeliver` gives again."""
    function: str = ""
    """Only this function; "" for all. For the points `function` and `output`."""

    @property
    def name(self) -> str:
        """Its label in the log and in the metrics."""
        return f"{self.point} {self.action}"


class Throttle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[throttle]`: IoT Hub's limits of a tier."""

    tier: Tier
    units: Annotated[int, Meta(ge=1, le=200)] = 1
    burst_seconds: Seconds = 60.0
    """How long a full load above the limit is taken before it is slowed down."""
    queue_seconds: Seconds = 60.0
    """How long a message may wait before the hub closes the connection instead."""
    sent_today: Count = 0
    """Messages of the daily quota that are used up already."""


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A faults file. `app_settings` go to the function app, for faults that it knows how to make itself."""

    seed: int = 0
    fault: list[Fault] = []
    throttle: Throttle | None = None
    app_settings: dict[str, str] = {}

    def describe(self) -> list[str]:
        """Return a line for each thing that will go wrong; of settings only their names, for values may be secrets."""
        lines = [_describe(fault) for fault in self.fault]
        if self.throttle is not None:
            lines.append(f"IoT Hub's limits of {self.throttle.units} unit(s) of {self.throttle.tier}")
        return lines + [f"the app's setting {name}" for name in self.app_settings]


def parse_plan(text: str, name: str) -> FaultPlan:
    """Read the text of a faults file; `name` is for the errors. Raises FaultPlanError."""
    try:
        plan = msgspec.convert(tomllib.loads(text), FaultPlan)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise FaultPlanError(f"{name}: {error}") from None
    for number, fault in enumerate(plan.fault, start=1):
        if fault.action not in EVERYWHERE and fault.point != ONLY_AT[fault.action]:
            raise FaultPlanError(
                f"{name}, fault {number}: {fault.action} is for the point {ONLY_AT[fault.action]}, not {fault.point}"
            )
        if fault.function and not fault.point.startswith(("function.", "output.")):
            raise FaultPlanError(f"{name}, fault {number}: the point {fault.point} belongs to no one function")
    return plan


class Chance:
    """Decides each time that a fault might strike. Belongs to one thread at a time."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self._fault = fault
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._met = 0
        self._struck = 0
        self._left_of_run = 0

    def strikes(self) -> bool:
        """Tell whether it strikes this time."""
        fault = self._fault
        self._met += 1
        if self._met <= fault.skip or (fault.times is not None and self._struck >= fault.times):
            return False
        draw = self._random.random()  # drawn also within a run: what follows does not depend on it
        if self._left_of_run:
            self._left_of_run -= 1
        elif draw < fault.probability:
            self._left_of_run = fault.run - 1
        else:
            return False
        self._struck += 1
        return True


def _describe(fault: Fault) -> str:
    how = [] if fault.probability == 1 else [f"with probability {fault.probability:g}"]
    how += [f"from time {fault.skip + 1} on"] if fault.skip else []
    how += [f"{fault.run} times in a row"] if fault.run > 1 else []
    how += [f"at most {fault.times} times"] if fault.times is not None else []
    what = {
        "delay": f"delay of {fault.seconds:g} s",
        "time_out": f"time_out after {fault.seconds:g} s",
        "redeliver": f"redeliver the last {fault.events} events",
    }.get(fault.action, fault.action)
    where = f"{fault.point} of {fault.function}" if fault.function else fault.point
    return ", ".join([f"{where}: {what}", *(how or ["always"])])
