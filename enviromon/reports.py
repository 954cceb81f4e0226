"""What the HTTP API and the command line tell of the stores, in one form for both."""

import base64
from typing import Any

import msgspec

from enviromon.calibration import Calibration
from enviromon.cost import LEFT_OUT, Bill, Usage, Workload, advised, alternatives
from enviromon.device_state import Ledger, removed
from enviromon.errors import ContentionError
from enviromon.prices import Prices
from enviromon.stores import Change, DeadLetter, DeviceStore, WriteOutcome, each
from enviromon.updates import iso, ledger_view

_REMOVAL_ATTEMPTS = 20


async def ledger_report(devices: DeviceStore) -> dict[str, Any]:
    """Add up all devices, removed ones included: the totals, and under `devices` each device's own."""
    total = Ledger()
    ledgers = {}
    async for stored in each(devices.page):
        total += stored.state.ledger
        ledgers[stored.state.device_id] = ledger_view(stored.state.ledger)
    return {**ledger_view(total), "devices": ledgers}


def dead_letter_view(letter: DeadLetter) -> dict[str, Any]:
    """Write a dead letter; `body` is for reading, `bodyBase64` beside it is exact where the body is not UTF-8."""
    try:
        body = {"body": letter.body.decode()}
    except UnicodeDecodeError:
        body = {
            "body": letter.body.decode(errors="backslashreplace"),
            "bodyBase64": base64.b64encode(letter.body).decode(),
        }
    return {
        "reason": letter.reason,
        "detail": letter.detail,
        "deviceId": letter.device_id,
        "partition": letter.partition,
        "stream": letter.stream,
        "sequence": letter.sequence,
        "index": letter.index,
        "enqueuedTime": iso(letter.enqueued_time),
        **body,
    }


def calibration_view(device_id: str, calibration: Calibration | None) -> dict[str, Any]:
    """Write all versions of a device's calibration, none where there is none."""
    return {
        "deviceId": device_id,
        "versions": [
            {
                "validFrom": iso(version.valid_from),
                "metrics": {
                    name: {"slope": line.slope, "intercept": line.intercept} for name, line in version.lines.items()
                },
            }
            for version in (calibration.versions if calibration else ())
        ],
    }


def cost_view(workload: Workload, usage: Usage, bill: Bill, prices: Prices) -> dict[str, Any]:
    """Write what a workload costs on Azure, with what that rests on and what would make it cheaper."""
    advice = advised(bill, alternatives(workload, prices))
    return {
        "perMonth": bill.per_month,
        "currency": bill.currency,
        "fitsFreeTier": bill.fits_free_tier,
        "reasons": bill.reasons,
        "lines": [_camel(line) for line in bill.lines],
        "workload": _camel(workload),
        "usage": _camel(usage),
        "leftOut": LEFT_OUT,
        "advice": None if advice is None else {"what": advice.together, "perMonth": advice.bill.per_month},
        "prices": {"compiled": prices.compiled.isoformat(), "region": prices.region},
    }


def _camel(value: Any) -> Any:
    """Write a structure's fields in camelCase, those of structures in it too."""
    if not isinstance(value, msgspec.Struct):
        return value
    named = ((name.split("_"), getattr(value, name)) for name in value.__struct_fields__)
    return {first + "".join(map(str.capitalize, rest)): _camel(inner) for (first, *rest), inner in named}


async def mark_removed(devices: DeviceStore, device_id: str, now: int) -> bool:
    """Hide a device that was removed from the hub at `now` (ms) and keep its ledger; tell whether it had a state.

    Raises StorageError, ContentionError among it.
    """
    for _ in range(_REMOVAL_ATTEMPTS):
        stored = (await devices.load([device_id])).get(device_id)
        if stored is None:
            return False
        change = Change(removed(stored.state, now), stored.etag)
        (result,) = await devices.compare_and_set([change])
        if result.outcome is WriteOutcome.APPLIED:
            return True
    raise ContentionError(f"{device_id} is being written by others")
