"""Carrying on a deployment of the seed, the system this one grew from: what its rows mean here. Pure.

Its table DeviceState has a row per device: PartitionKey constant, RowKey the deviceId of the bodies, the columns below,
all of the time of the row's last write. Its table Calibration has rows of the same keys.

Rules:
1. The seed knew devices by what their bodies said; here the hub's word counts. A map from one to the other is given,
   and what it leaves out is told.
2. The seed's Count becomes the `baseline`: what was counted before. It counted redeliveries again, so it is no ledger.
3. A value comes with the time of its row; a newer one that is here already stays. The seed kept no raw values.
4. A calibration is valid from the beginning. The seed applied a metric's only where it had slope and intercept both.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from enviromon.calibration import Line, Version
from enviromon.carry.merging import Fate, Merged
from enviromon.device_state import DeviceState, Label, Measurement, Moment, is_device_id
from enviromon.errors import EnviromonError
from enviromon.metrics import title
from enviromon.stores.azure_tables.entities import column_of
from enviromon.telemetry import MAX_GEO_LENGTH, MAX_MESSAGE_ID_LENGTH, MAX_NAME_LENGTH

BEGINNING: Final = 0
_METRICS: Final = {column_of(name): name for name in ("temperature", "pressure", "humidity", "light")}
_CALIBRATED: Final = ("temperature", "humidity", "pressure")
_MAX_COUNT: Final = 1 << 53


class SeedError(EnviromonError):
    """A map or a row of the seed cannot be taken over; the sentence names it."""


class SeedDevice(Struct, frozen=True):
    """A row read: the state that it makes, and the columns that could not be believed."""

    state: DeviceState
    left_out: list[str]


def read_map(text: bytes) -> dict[str, str]:
    """Read the map: a JSON object of the seed's deviceIds to IoT Hub's device ids. Raises SeedError."""
    try:
        found = msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SeedError(f'the id map must be a JSON object such as {{"Greenhouse": "gh-1"}}: {error}') from None
    takers: dict[str, str] = {}
    for name, device_id in found.items():
        if not is_device_id(device_id):
            raise SeedError(f"the id map gives {name!r} to {device_id!r}, which is no device id of IoT Hub")
        if device_id in takers:
            raise SeedError(
                f"the id map gives {takers[device_id]!r} and {name!r} to {device_id!r}: one Count would be lost"
            )
        takers[device_id] = name
    return found


def seed_device(device_id: str, row: Mapping[str, Any], at: int) -> SeedDevice:
    """Read a row of DeviceState that was last written at `at` (ms). Raises SeedError where its Count is none."""
    count = _plain(row.get("Count"))
    if type(count) is not int or not 0 <= count <= _MAX_COUNT:
        raise SeedError(f"the row {row.get('RowKey')!r} has {row.get('Count')!r} for a Count")
    moment = Moment(at, 0, 0)
    left_out = []
    metrics = {}
    for column, name in _METRICS.items():
        value = _plain(row.get(column))
        if value is None:
            continue
        if type(value) in {int, float} and math.isfinite(value):
            metrics[name] = Measurement(float(value), float(value), moment)
        else:
            left_out.append(column)
    labels = {}
    for column, name, longest in (
        ("DeviceId", "name", MAX_NAME_LENGTH),
        ("Geo", "geo", MAX_GEO_LENGTH),
        ("Id", "messageId", MAX_MESSAGE_ID_LENGTH),
    ):
        value = _plain(row.get(column))
        if value is None:
            continue
        if (type(value) is str and len(value) <= longest) or (name == "messageId" and type(value) is int):
            labels[name] = Label(value, moment)
        else:
            left_out.append(column)
    state = DeviceState(device_id, labels=labels, metrics=metrics, event_time=at, revision=1, baseline=count)
    return SeedDevice(state, left_out)


def seed_version(row: Mapping[str, Any]) -> Version | None:
    """Read a row of Calibration; None where it calibrates nothing. Raises SeedError where a number is not finite."""
    lines = {}
    for name in _CALIBRATED:
        slope, intercept = (_plain(row.get(title(name) + part)) for part in ("Slope", "YIntercept"))
        if slope is None or intercept is None:
            continue
        try:
            lines[name] = Line(float(slope), float(intercept))
        except (TypeError, ValueError) as error:
            raise SeedError(f"the calibration {row.get('RowKey')!r} of {name} is not acceptable: {error}") from None
    return Version(BEGINNING, lines) if lines else None


def carried_on(held: DeviceState | None, seed: DeviceState, *, overwrite: bool) -> Merged:
    """Join the seed's state with the one that is here: its count as baseline, its values where they are newer."""
    if held is None:
        return Merged(Fate.WRITTEN, seed)
    if held.baseline > seed.baseline and not overwrite:
        return Merged(Fate.NEWER)
    joined = structs.replace(
        held,
        baseline=seed.baseline,
        metrics=held.metrics
        | {name: one for name, one in seed.metrics.items() if _is_newer(one, held.metrics.get(name))},
        labels=held.labels | {name: one for name, one in seed.labels.items() if _is_newer(one, held.labels.get(name))},
        event_time=max(filter(None, (held.event_time, seed.event_time)), default=None),
    )
    if joined == held:
        return Merged(Fate.UNCHANGED)
    return Merged(Fate.REPLACED, structs.replace(joined, revision=held.revision + 1))


def _is_newer(brought: Measurement | Label, held: Measurement | Label | None) -> bool:
    return held is None or held.at < brought.at


def _plain(value: Any) -> Any:
    """Return what azure-data-tables means: an Int64 comes as a pair of the number and its type."""
    return value[0] if isinstance(value, tuple) else value
