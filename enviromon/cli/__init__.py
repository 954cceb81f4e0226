"""The `enviromon` command: the composition root, the one place that knows both enviromon and localcloud.

Exit codes: 0 done; 1 what was asked could not be done, with a sentence on stderr; 2 the command line was wrong.
Commands are imported when they run, so that none pays for another's imports.
"""

import time

from enviromon.cli.lazy import LazyGroup

STARTED = time.perf_counter()  # as near to the process's own start as Python allows: `up` counts from here

COMMANDS = {
    "up": "enviromon.cli.up:up",
    "hub": "enviromon.cli.hub:hub",
    "device": "enviromon.cli.device:device",
    "simulate": "enviromon.cli.simulate:simulate",
    "state": "enviromon.cli.state:state",
    "calibration": "enviromon.cli.calibration:calibration",
    "dead-letters": "enviromon.cli.dead_letters:dead_letters",
    "ledger": "enviromon.cli.ledger:ledger",
    "cost": "enviromon.cli.cost:cost",
    "export": "enviromon.cli.carry:export",
    "import": "enviromon.cli.carry:import_",
    "doctor": "enviromon.cli.doctor:doctor",
}

main = LazyGroup(
    name="enviromon",
    commands_at=COMMANDS,
    help="IoT telemetry, exact and live: from devices over IoT Hub's protocol to a dashboard.",
)
