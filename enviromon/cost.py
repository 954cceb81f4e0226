"""What a workload uses on Azure, and what that costs a month.

The formulae, with b messages a batch and D devices that send through the same partition:
- a batch touches d = D * (1 - (1 - 1/D) ** b) devices, senders taken as random;
- an execution per batch; it writes a table transaction per 100 devices and table partition, and one checkpoint;
- a frame to every viewer per batch, billed per started 2 KB of what d devices' updates weigh.
Whatever is not known is taken so that the estimate is rather too high than too low; LEFT_OUT says what is left out.

Times are seconds, sizes bytes, rates per second, money in the prices' currency.
"""

import math
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from enviromon.prices import HubTier, Prices

DAY: Final = 86_400
DAYS_A_MONTH: Final = 365 / 12
ENTITIES_A_TRANSACTION: Final = 100
REFETCH_SECONDS: Final = 60
"""How often the page asks for all devices, a request per page of PAGE_DEVICES."""
PAGE_DEVICES: Final = 1000
UPDATE_BYTES: Final = 560.0
"""What one device's update weighs with all metrics (tests hold it against what `updates` writes)."""
WAITS: Final = (1.0, 5.0, 30.0)
"""The longest waits for news, in seconds, that `alternatives` tries."""
SMALLEST_INSTANCE_MB: Final = 512
READINGS_AT_ONCE: Final = 10
PARTITIONS: Final = 4
FREE_PARTITIONS: Final = 2
"""What the deployment gives a hub, and the free one, which can have no more (tests hold both against infra/)."""
LARGE_BATCH: Final = 1000
WORTHWHILE: Final = 1 / 2
"""Of the largest saving: the mildest change that brings this much is advised."""
LEFT_OUT: Final = (
    "Application Insights beyond its free 5 GB a month, outbound traffic, and stored bytes (a device's state is 1 KB)"
)


class Batching(Struct, frozen=True, kw_only=True):
    """How events become batches: host.json's eventHubs, and the hub's partitions.

    `partitions` is None where they are those that the deployment gives a hub of the tier that carries the workload.
    """

    partitions: int | None = None
    minimum: int = 1
    maximum: int = 100
    max_wait: float = 60.0


class Workload(Struct, frozen=True, kw_only=True):
    """What goes on: devices, their messages a second in all, dashboards and their hours a day, and what each weighs.

    `seconds` is how long an execution takes; `batch` fixes the messages a batch instead of deriving them.
    """

    devices: int
    rate: float
    viewers: int = 1
    viewer_hours: float = 24.0
    batching: Batching = Batching()
    batch: float | None = None
    message_bytes: float = 200.0
    update_bytes: float = UPDATE_BYTES
    seconds: float = 0.1
    memory_mb: int = 2048
    table_partitions: int = 1
    calibration_ttl: float = 10.0


class Usage(Struct, frozen=True, kw_only=True):
    """What the workload uses in a day, and how its batches come out."""

    batch: float
    batch_devices: float
    messages: float
    executions: float
    gb_seconds: float
    table_transactions: float
    checkpoints: float
    signalr_messages: float
    frames_per_second: float


class Line(Struct, frozen=True, kw_only=True):
    """One item of the bill: how much a day, in which tier, its price a month, and whether it is free.

    `free` is None where Azure gives nothing for free. `reason` says why it is not free.
    """

    service: str
    unit: str
    per_day: float
    tier: str
    per_month: float
    free: bool | None
    reason: str = ""


class Bill(Struct, frozen=True, kw_only=True):
    """All items."""

    lines: list[Line]
    per_month: float
    currency: str

    @property
    def fits_free_tier(self) -> bool:
        """Tell whether everything that Azure gives for free suffices; storage costs its cents beside it."""
        return all(line.free is not False for line in self.lines)

    @property
    def reasons(self) -> list[str]:
        """Why it does not fit, one sentence each."""
        return [line.reason for line in self.lines if line.reason]


def distinct(devices: float, messages: float) -> float:
    """Return how many of the devices that many messages of random senders come from."""
    if devices <= 1:
        return min(devices, messages)
    return float(devices * (1 - (1 - 1 / devices) ** messages))


def batch_size(workload: Workload, prices: Prices) -> float:
    """Return the messages a batch has on average: what must come together, or comes while the last one is worked on."""
    batching = workload.batching
    if workload.batch is not None:
        return max(1.0, workload.batch)
    rate = workload.rate / _streams(workload, prices)
    waited = min(batching.minimum, 1 + rate * batching.max_wait)
    return min(max(1.0, waited, rate * workload.seconds), batching.maximum)


def use(workload: Workload, prices: Prices) -> Usage:
    """Work out a day's usage."""
    streams = _streams(workload, prices)
    b = batch_size(workload, prices)
    touched = distinct(workload.devices / streams, b)
    batches = workload.rate * DAY / b
    watching = workload.viewers * workload.viewer_hours / 24
    requests = watching * DAY / REFETCH_SECONDS * math.ceil(max(workload.devices, 1) / PAGE_DEVICES)
    pieces = math.ceil(touched * workload.update_bytes / prices.signalr.meter_bytes)
    partitions = max(1, math.ceil(distinct(workload.table_partitions, touched)))
    writes = partitions * math.ceil(touched / partitions / ENTITIES_A_TRANSACTION)
    calibrations = min(batches, streams * DAY / max(workload.calibration_ttl, 1.0))
    busy = _busy_seconds(batches, workload, prices, at_once=streams)
    busy += _busy_seconds(requests, workload, prices, at_once=1)
    return Usage(
        batch=b,
        batch_devices=touched,
        messages=workload.rate * DAY,
        executions=batches + requests,
        gb_seconds=busy * workload.memory_mb / 1024,
        table_transactions=batches * writes + calibrations + requests,
        checkpoints=batches,
        signalr_messages=batches * pieces * watching,
        frames_per_second=batches / DAY,
    )


def use_uncoalesced(workload: Workload, prices: Prices) -> Usage:
    """Work out a day of a design that reads and writes a row per message, and sends each device's news by itself.

    That takes one more execution, and one broadcast, per device of a batch: the design this one came from.
    """
    b = batch_size(workload, prices)
    touched = distinct(workload.devices / _streams(workload, prices), b)
    messages = workload.rate * DAY
    batches = messages / b
    pieces = math.ceil(workload.update_bytes / prices.signalr.meter_bytes)
    executions = batches * (1 + touched)
    return Usage(
        batch=b,
        batch_devices=touched,
        messages=messages,
        executions=executions,
        gb_seconds=_busy_seconds(executions, workload, prices, at_once=1) * workload.memory_mb / 1024,
        table_transactions=2 * messages,
        checkpoints=batches,
        signalr_messages=batches * touched * pieces * workload.viewers * workload.viewer_hours / 24,
        frames_per_second=batches * touched / DAY,
    )


def price(workload: Workload, usage: Usage, prices: Prices) -> Bill:
    """Price a day's usage for a month. Raises ValueError where no tier carries it."""
    lines = [
        _hub(workload, prices),
        *_functions(usage, prices),
        _pennies("Table storage", "transactions", usage.table_transactions, prices.tables.per_10000_transactions),
        _pennies("Checkpoints", "blob operations", usage.checkpoints, prices.checkpoints.per_10000_operations),
        _signalr(workload, usage, prices),
    ]
    return Bill(lines=lines, per_month=sum(line.per_month for line in lines), currency=prices.currency)


def estimate(workload: Workload, prices: Prices) -> tuple[Usage, Bill]:
    """Work out and price this design's usage. Raises ValueError as `price` does."""
    usage = use(workload, prices)
    return usage, price(workload, usage, prices)


class Alternative(Struct, frozen=True):
    """The same work done in another way; `what` names the change, `together` all changes up to it."""

    what: str
    together: str
    workload: Workload
    usage: Usage
    bill: Bill


def alternatives(workload: Workload, prices: Prices) -> list[Alternative]:
    """Work out other settings, each on top of the ones before it; then fewer messages; last, no coalescing at all.

    Raises ValueError as `price` does.
    """
    maximum = max(LARGE_BATCH, workload.batching.maximum)
    steps: list[tuple[str, str, Workload]] = []
    changed, before = workload, ""
    if workload.memory_mb > SMALLEST_INSTANCE_MB:
        changed = replace(workload, memory_mb=SMALLEST_INSTANCE_MB)
        what = f"instances of {SMALLEST_INSTANCE_MB} MB"
        steps.append((what, what, changed))
        before = f"{what} and "
    waits = 0.0 if workload.batching.minimum == 1 else workload.batching.max_wait
    for wait in (longer for longer in WAITS if longer >= waits):
        batching = replace(workload.batching, minimum=maximum, maximum=maximum, max_wait=wait)
        waiting = replace(changed, batch=None, batching=batching)
        if use(waiting, prices) == use(changed, prices):  # batches never come to what they may hold already
            continue
        changed = waiting
        what = f"news that may wait {wait:g} s"
        steps.append((what, before + what, changed))
    rate, size = workload.rate / READINGS_AT_ONCE, workload.message_bytes * READINGS_AT_ONCE
    what = f"{READINGS_AT_ONCE} readings a message"
    steps.append(
        (what, f"{steps[-1][1]} and {what}" if steps else what, replace(changed, rate=rate, message_bytes=size))
    )
    alone = use_uncoalesced(workload, prices)
    return [
        *(Alternative(what, together, step, *estimate(step, prices)) for what, together, step in steps),
        Alternative("no coalescing at all", "no coalescing at all", workload, alone, price(workload, alone, prices)),
    ]


def advised(bill: Bill, others: list[Alternative]) -> Alternative | None:
    """Return the mildest change of settings that brings most of what settings can save; None below a unit of money."""
    settings = others[:-2]
    best = bill.per_month - min((found.bill.per_month for found in settings), default=bill.per_month)
    if best < 1:
        return None
    return next(found for found in settings if bill.per_month - found.bill.per_month >= best * WORTHWHILE)


def _streams(workload: Workload, prices: Prices) -> int:
    """Partitions that carry anything: a device stays in one."""
    partitions = workload.batching.partitions
    if partitions is None:
        found = _hub_tier(workload, prices)
        partitions = FREE_PARTITIONS if found and found[0].per_unit_month == 0 else PARTITIONS
    return max(1, min(partitions, workload.devices))


def _busy_seconds(executions: float, workload: Workload, prices: Prices, *, at_once: int) -> float:
    """Seconds that are billed a day: each execution's own, but never more than instances are there to be busy.

    An instance works on `at_once` executions at a time, and is billed once for them.
    """
    functions = prices.functions
    steps = math.ceil(round(workload.seconds / functions.step_seconds, 6))
    each = max(functions.least_seconds, steps * functions.step_seconds)
    instances = max(1, math.ceil(executions / DAY * workload.seconds / at_once))
    return min(executions * each, instances * DAY)


def _hub_tier(workload: Workload, prices: Prices) -> tuple[HubTier, int] | None:
    """Return the tier that carries the workload for least, and its units; None where none does."""
    fitting = [(tier, units) for tier in prices.iot_hub.tiers if (units := _units(workload, tier))]
    return min(fitting, key=lambda found: found[0].per_unit_month * found[1], default=None)


def _hub(workload: Workload, prices: Prices) -> Line:
    found = _hub_tier(workload, prices)
    if found is None:
        raise ValueError(f"no single IoT Hub carries {workload.rate:,.0f} messages a second of {workload.devices:,}")
    tier, units = found
    cost = tier.per_unit_month * units
    return Line(
        service="IoT Hub",
        unit=f"messages of {tier.meter_bytes / 1024:g} KB",
        per_day=_metered(workload, tier),
        tier=f"{tier.name}, {units} units" if units > 1 else tier.name,
        per_month=cost,
        free=cost == 0,
        reason="" if cost == 0 else _beyond_free_hub(workload, prices.iot_hub.tiers[0]),
    )


def _beyond_free_hub(workload: Workload, free: HubTier) -> str:
    if workload.devices > free.devices:
        return f"IoT Hub: {workload.devices:,} devices, {free.devices:,} are free"
    size = f"{free.meter_bytes / 1024:g} KB"
    return f"IoT Hub: {_about(_metered(workload, free))} messages of {size} a day, {free.messages_per_day:,} are free"


def _about(amount: float) -> str:
    """Write three digits that count: an estimate has no more."""
    return f"{float(f'{amount:.3g}'):,.0f}"


def _metered(workload: Workload, tier: HubTier) -> float:
    return workload.rate * DAY * math.ceil(max(workload.message_bytes, 1) / tier.meter_bytes)


def _units(workload: Workload, tier: HubTier) -> int:
    """Units of the tier that carry the workload; 0 where none do."""
    needed = max(1, math.ceil(_metered(workload, tier) / tier.messages_per_day))
    if workload.rate > tier.sends_per_second:
        needed = max(needed, math.ceil(workload.rate / tier.sends_per_second_unit))
    return needed if needed <= tier.units and workload.devices <= tier.devices else 0


def _functions(usage: Usage, prices: Prices) -> list[Line]:
    rates = prices.functions
    items = (
        ("executions", usage.executions, rates.free_executions, rates.per_million_executions / 1e6),
        ("GB-s", usage.gb_seconds, rates.free_gb_seconds, rates.per_gb_second),
    )
    lines = []
    for unit, per_day, grant, rate in items:
        month = per_day * DAYS_A_MONTH
        free = month <= grant
        lines.append(
            Line(
                service="Functions",
                unit=unit,
                per_day=per_day,
                tier="Flex Consumption",
                per_month=max(0.0, month - grant) * rate,
                free=free,
                reason="" if free else f"Functions: {_about(month)} {unit} a month, {grant:,} are free",
            )
        )
    return lines


def _pennies(service: str, unit: str, per_day: float, per_10000: float) -> Line:
    cost = per_day * DAYS_A_MONTH / 10_000 * per_10000
    return Line(service=service, unit=unit, per_day=per_day, tier="Standard", per_month=cost, free=None)


def _signalr(workload: Workload, usage: Usage, prices: Prices) -> Line:
    signalr, per_day, viewers = prices.signalr, usage.signalr_messages, workload.viewers
    if viewers <= signalr.free_connections and per_day <= signalr.free_messages_per_day:
        tier, cost, reason = "Free", 0.0, ""
    else:
        units = max(1, math.ceil(viewers / signalr.connections), math.ceil(per_day / DAY / signalr.sends_per_second))
        if units > signalr.units:
            raise ValueError(f"no single SignalR Service carries {per_day:,.0f} messages a day to {viewers:,} viewers")
        extra = max(0.0, per_day - units * signalr.messages_per_day) * DAYS_A_MONTH / 1e6
        tier = f"Standard, {units} units" if units > 1 else "Standard"
        cost = units * signalr.per_unit_month + extra * signalr.per_million_messages
        reason = f"SignalR: {_about(per_day)} messages a day, {signalr.free_messages_per_day:,} are free"
        if viewers > signalr.free_connections:
            reason = f"SignalR: {viewers:,} viewers, {signalr.free_connections} are free"
    return Line(
        service="SignalR",
        unit="messages of 2 KB",
        per_day=per_day,
        tier=tier,
        per_month=cost,
        free=not reason,
        reason=reason,
    )
