"""`enviromon simulate`: a fleet of simulated devices against the local hub or a real one."""

import asyncio
import contextlib
import ssl
import sys
from pathlib import Path
from typing import Any

import click

from enviromon.cli.common import data_option, json_option, print_json, running_system
from enviromon.cli.hub import service_connection_string
from enviromon.device_client import HubAddress
from enviromon.errors import EnviromonError
from enviromon.hub_registry import HubRegistry, parse_connection_string
from enviromon.simulator import Plan, Simulator, Tally, device_ids
from localcloud.running import run_async

MQTT_PORT = 8883
PROGRESS_SECONDS = 0.5
REGISTRATIONS_AT_ONCE = 8


@click.command(short_help="Send telemetry from simulated devices.")
@click.option("--connection-string", envvar="IOTHUB_CONNECTION_STRING", help="A hub's, that may write its registry.")
@data_option
@click.option("--devices", type=click.IntRange(1, 100_000), default=6, show_default=True, help="How many: sim-1..N.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Messages a second, of all together.  [default: N]"
)
@click.option("--count", type=click.IntRange(1), help="Stop when this many, in all, are acknowledged.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same values.")
@click.option("--mqtt-port", type=click.IntRange(1, 65535), help="The hub's.  [default: the local hub's, or 8883]")
@click.option("--ca-file", type=click.Path(dir_okay=False, exists=True), help="The CA of the hub's certificate.")
@json_option
def simulate(**options: Any) -> None:
    """Send telemetry from simulated devices, to the local hub of --data or to the one of --connection-string."""
    devices = options["devices"]
    plan = Plan(devices=devices, rate=options["rate"] or devices, count=options["count"], seed=options["seed"])
    if options["connection_string"]:
        target = Target(options["connection_string"], options["mqtt_port"] or MQTT_PORT, options["ca_file"])
    else:
        target = local_target(options["data"])
    seconds, tally = run_async(_simulate(target, plan))
    if options["as_json"]:
        print_json({"sent": tally.sent, "acknowledged": tally.acknowledged, "reconnects": tally.reconnects})
    else:
        counts = f"sent {tally.sent:,}, acknowledged {tally.acknowledged:,} in {seconds:.1f} s"
        click.echo(f"{counts}, reconnected {tally.reconnects:,} times")


class Target:
    """A hub to send to: its connection string, its MQTT port and the file of the CA to trust (None: the system's)."""

    def __init__(self, connection_string: str, mqtt_port: int, ca_file: str | None) -> None:
        self.hub = parse_connection_string(connection_string)
        self.tls = ssl.create_default_context(cafile=ca_file)
        self.mqtt = HubAddress(self.hub.hostname, mqtt_port, self.tls)


def local_target(data: Path) -> Target:
    """The hub that runs on the data directory. Raises EnviromonError where none does."""
    running = running_system(data)
    if not running:
        raise EnviromonError(
            f"nothing runs on {data}: start `enviromon up`, or name a hub with --data or --connection-string"
        )
    return Target(service_connection_string(data, running), running["ports"]["mqtt"], running["caFile"])


async def start_simulator(target: Target, plan: Plan) -> Simulator:
    """Register the plan's devices where the hub does not know them, and make the fleet."""
    limit = asyncio.Semaphore(REGISTRATIONS_AT_ONCE)
    async with HubRegistry(target.hub, target.tls) as registry:

        async def key(device_id: str) -> str:
            async with limit:
                return await registry.ensure_device(device_id)

        ids = device_ids(plan.devices)
        keys = await asyncio.gather(*map(key, ids))
    return Simulator(target.mqtt, dict(zip(ids, keys, strict=True)), plan)


async def _simulate(target: Target, plan: Plan) -> tuple[float, Tally]:
    loop = asyncio.get_running_loop()
    simulator = await start_simulator(target, plan)
    start = loop.time()
    progress = asyncio.create_task(_progress(simulator.tally)) if sys.stderr.isatty() else None
    try:
        with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C ends a run without a count: that is its normal end
            await simulator.run()
    finally:
        if progress:
            progress.cancel()
            click.echo("", err=True)
    return loop.time() - start, simulator.tally


async def _progress(tally: Tally) -> None:
    while True:
        line = f"{tally.connected:,} connected, {tally.sent:,} sent, {tally.acknowledged:,} acknowledged"
        click.echo(f"\r{line:<78}", nl=False, err=True)
        await asyncio.sleep(PROGRESS_SECONDS)
