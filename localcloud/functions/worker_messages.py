"""What the main process and its function workers tell each other: one JSON object a line. Pure."""

import msgspec

from localcloud.faults.plan import FaultPlan
from localcloud.functions.counters import FunctionCounters

MAX_LINE_BYTES = 1 << 20


class Start(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """To a new worker: what to run, and with what. Holds keys, so it goes over the socket and nowhere else."""

    app_dir: str
    data: str
    app_settings: dict[str, str]
    connections: dict[str, str]
    ca_file: str | None
    verbose: bool
    only_failures: bool
    json_log: bool
    faults: FaultPlan | None = None


class Grant(msgspec.Struct, frozen=True, tag=True):
    """To a worker: run these partitions and no others."""

    partitions: list[int]


class Ends(msgspec.Struct, frozen=True, tag=True):
    """To a worker: per partition the sequence number after its last event."""

    ends: list[int]


class Report(msgspec.Struct, frozen=True, tag=True):
    """From a worker, at least every BEAT_SECONDS: what it runs.

    By function: its counters, and the last sequence number that it has finished, by partition. `figures` are those of
    the app itself, in Prometheus' text format; `faults` are those that happened on purpose.
    """

    running: list[int]
    counters: dict[str, FunctionCounters]
    positions: dict[str, dict[int, int]]
    figures: str
    faults: dict[str, int] = {}


BEAT_SECONDS = 0.5

encode = msgspec.json.Encoder().encode
decode_for_worker = msgspec.json.Decoder(Start | Grant | Ends).decode
decode_from_worker = msgspec.json.Decoder(Report).decode
