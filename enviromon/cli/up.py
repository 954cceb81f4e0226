"""`enviromon up`: the whole system in one process, ready in a second."""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import click

from enviromon.cli import STARTED
from enviromon.cli.common import data_option, json_option, print_json
from enviromon.cli.simulate import simulation
from enviromon.errors import EnviromonError
from enviromon.simulator import Plan
from localcloud.cloud import CloudError, CloudSettings, LocalCloud

STOP_SECONDS = 1.5
HIGHEST_PORT = 65535

Port = click.IntRange(0, HIGHEST_PORT)


@click.command()
@data_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--hostname", default="localhost", show_default=True, help="The name by which clients come.")
@click.option("--http-port", type=Port, default=7071, show_default=True, help="Functions and dashboard; 0: any free.")
@click.option("--mqtt-port", type=Port, default=8883, show_default=True, help="IoT Hub's MQTT over TLS.")
@click.option("--mqtt-plain-port", type=Port, help="MQTT without TLS as well; none unless given.")
@click.option("--https-port", type=Port, help="IoT Hub's HTTPS.  [default: 8443, or a free one]")
@click.option("--signalr-port", type=Port, default=8888, show_default=True, help="SignalR.")
@click.option("--simulate", type=click.IntRange(0), default=0, metavar="N", help="Simulate N devices.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Their messages per second.  [default: N]")
@click.option("--open-reads", is_flag=True, help="Beyond this machine, let anyone read; otherwise a key is needed.")
@click.option("--verbose", is_flag=True, help="A line per invocation and more of the log.")
@json_option
def up(**options: Any) -> None:
    """Start everything: IoT Hub, the function app, SignalR and the dashboard. Ctrl-C ends it."""
    logging.basicConfig(
        level=logging.INFO if options["verbose"] else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        _run(_serve(options))
    except CloudError as error:
        raise EnviromonError(str(error)) from error


def _run(main: Any) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
    else:
        import uvloop  # noqa: PLC0415

        uvloop.run(main)


async def _serve(options: dict[str, Any]) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    cloud = LocalCloud(_settings(options))
    await cloud.start()
    try:
        _announce(cloud, as_json=options["as_json"])
        async with contextlib.AsyncExitStack() as stack:
            if options["simulate"]:
                plan = Plan(devices=options["simulate"], rate=options["rate"] or float(options["simulate"]))
                await stack.enter_async_context(_background(simulation(cloud.data, plan)))
            await stop.wait()
    finally:
        await cloud.stop()
