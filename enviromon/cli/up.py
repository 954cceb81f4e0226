"""`enviromon up`: the whole system in one process, ready in a second."""

import asyncio
import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

import click

from enviromon.app_files import app_directory, page_directory
from enviromon.cli import STARTED
from enviromon.cli.common import data_option, json_option, local_store_url, settings
from enviromon.cli.simulate import local_target, start_simulator
from enviromon.errors import EnviromonError
from enviromon.simulator import Plan
from enviromon.stores import open_stores
from localcloud.addresses import is_loopback
from localcloud.cloud import EVENT_HUB_NAME, CloudSettings, LocalCloud
from localcloud.functions.console import reporter
from localcloud.private_files import write_private
from localcloud.running import cloud_options, fitting, run_cloud, stop_signal

if TYPE_CHECKING:
    from pathlib import Path

PAGE_POLICY = (
    # SignalR is on a port of its own, or on Azure: where the page may connect to is not known beforehand.
    "default-src 'self'; connect-src 'self' http: https: ws: wss:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_log = logging.getLogger(__name__)


@click.command(short_help="Start the whole system; Ctrl-C ends it.")
@data_option
@cloud_options
@click.option("--simulate", type=click.IntRange(0), default=0, metavar="N", help="Simulate N devices.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Their messages a second in all.  [default: N]")
@click.option("--open-reads", is_flag=True, help="Beyond this machine, let anyone read; otherwise a key is needed.")
@json_option
def up(**options: Any) -> None:
    """Start everything: IoT Hub, the function app, SignalR and the dashboard. Ctrl-C ends it."""
    run_cloud(options["data"], _serve(options))


async def _serve(options: dict[str, Any]) -> None:
    stop = stop_signal()
    await _check_store(options["data"])
    read_key = _read_key(options)
    report = reporter(app_directory(), only_failures=not options["verbose"], as_json=options["log_format"] == "json")
    cloud = LocalCloud(_settings(options, read_key), report)
    await cloud.start()
    simulation = None
    try:
        _announce(cloud, read_key, options)
        if options["simulate"]:
            simulation = asyncio.create_task(_simulate(options))
        await stop.wait()
    finally:
        if simulation:
            simulation.cancel()
            await asyncio.wait([simulation])
        await cloud.stop()


async def _check_store(data: "Path") -> None:
    """Read a row of a store in a file: damage shall not first come up with the first event. Raises StorageError."""
    chosen = settings(data)
    if chosen.store_url.startswith("sqlite:"):
        stores = open_stores(chosen.store_url, chosen.site)
        try:
            await stores.devices.page(limit=1)
        finally:
            await stores.close()


def _settings(options: dict[str, Any], read_key: str | None) -> CloudSettings:
    app_settings = {
        "STORE_URL": local_store_url(options["data"]),
        "IoTHubEventHubName": EVENT_HUB_NAME,
        "INSTRUMENTS": "prometheus",
        **({"READ_ACCESS": "key", "READ_KEY": read_key} if read_key else {"READ_ACCESS": "open"}),
    }
    listeners = {name: options[name] for name in options if name.endswith("_port")}
    return CloudSettings(
        app_dir=app_directory(),
        static_dir=page_directory(),
        data=options["data"],
        host=options["host"],
        hostname=options["hostname"],
        tls=not is_loopback(options["host"]),
        app_settings=app_settings,
        content_security_policy=PAGE_POLICY,
        limits=fitting(options["limits"]),
        workers=options["workers"],
        only_failures=not options["verbose"],
        json_log=options["log_format"] == "json",
        faults=options["faults"],
        **listeners,
    )


def _read_key(options: dict[str, Any]) -> str | None:
    """The key that readers need: none on this machine alone or with --open-reads, else one that stays the same."""
    if options["open_reads"] or is_loopback(options["host"]):
        return None
    path: Path = options["data"] / "read.key"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(16).encode())
    if not (key := path.read_text().strip()):
        raise EnviromonError(f"{path} is empty: remove it, and the next start makes a new key for readers")
    return key


def _announce(cloud: LocalCloud, read_key: str | None, options: dict[str, Any]) -> None:
    seconds = time.perf_counter() - STARTED
    facts = cloud.facts()
    page = facts["url"] + (f"#key={read_key}" if read_key else "")
    if options["as_json"]:
        click.echo(json.dumps({"dashboard": page, **facts, "readySeconds": round(seconds, 3)}))
        return
    ports, hostname = facts["ports"], facts["hostname"]
    for name, value in (
        ("dashboard", page),
        ("devices", f"mqtts://{hostname}:{ports['mqtt']}"),
        ("registry", f"https://{hostname}:{ports['https']}"),
        ("SignalR", cloud.signalr_url),
        ("CA file", facts["caFile"]),
        ("data", options["data"]),
    ):
        click.echo(f"  {click.style(name.ljust(10), dim=True)} {value}")
    if page_directory() is None:
        click.echo("The page is not built: run `npm ci && npm run build` in dashboard/, then start again.")
    click.echo(f"{click.style('ready', fg='green', bold=True)} in {seconds:.2f} s. Ctrl-C ends it.")


async def _simulate(options: dict[str, Any]) -> None:
    plan = Plan(devices=options["simulate"], rate=options["rate"] or options["simulate"])
    try:
        simulator = await start_simulator(local_target(options["data"]), plan)
        await simulator.run()
    except EnviromonError as error:
        _log.error("the simulation ended: %s", error)
    except Exception:  # noqa: BLE001 - whatever it was, the system itself is well
        _log.exception("the simulation ended; the system goes on without it")
