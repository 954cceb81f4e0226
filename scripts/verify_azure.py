"""Prove a system from end to end, on Azure or on this machine: only addresses and credentials differ.

See scripts/verify-azure. The device `verify-azure` is registered for it and removed afterwards; its row stays in the
state, so that the ledger goes on adding up, and each run judges by what its own messages added to it.
"""

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import click
from azure.iot.device.aio import IoTHubDeviceClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.viewer import Viewer, watching
from enviromon.errors import EnviromonError
from enviromon.hub_registry import HubConnection, HubRegistry, parse_connection_string

DEVICE = "verify-azure"
AT_ONCE = 20
FIRST_ANSWER_SECONDS = 120.0
"""How long a function app that slept may take to answer."""


class RefutedError(EnviromonError):
    """The system did not do what it promises."""


class Target(NamedTuple):
    """Where the system is, and what opens it."""

    api: str
    hub: HubConnection
    access: Mapping[str, str]
    ca_file: str | None


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say a step, whether it went well and how long it took."""
    start = time.perf_counter()
    click.echo(f"  {what} … ", nl=False)
    try:
        yield
    except BaseException:
        click.echo("no")
        raise
    click.echo(f"yes, {time.perf_counter() - start:.1f} s")


@click.command()
@click.option("--api", envvar="API_URL", help="The function app's address.  [default: azd's API_URL]")
@click.option("--connection-string", envvar="IOTHUB_CONNECTION_STRING", help="The hub's, that may write its registry.")
@click.option("--read-key", envvar="READ_KEY", help="READ_KEY, where reading needs it.  [default: azd's]")
@click.option("--token", envvar="API_TOKEN", help="A token of Entra ID, where the platform asks for one.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="The CA of a local hub's certificate.")
@click.option("--messages", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option(
    "--patience", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds to wait for them."
)
def main(messages: int, patience: float, **options: str | None) -> None:
    """Send messages through a deployed system and compare what comes out. Ends with 1 where it does not agree."""
    try:
        target = find_target(options)
        asyncio.run(verify(target, messages, patience))
    except (EnviromonError, TimeoutError, aiohttp.ClientError, OSError) as error:
        raise click.ClickException(str(error) or type(error).__name__) from error
    click.secho("The system does what it promises.", fg="green")


def find_target(options: Mapping[str, str | None]) -> Target:
    """Take what was given and ask azd and az for the rest."""
    api, text, key, token = (options[name] for name in ("api", "connection_string", "read_key", "token"))
    if not api or not text:
        values = json.loads(output_of("azd", "env", "get-values", "--output", "json"))
        api = api or values["API_URL"]
        text = text or registry_connection_string(values["IOT_HUB"])
        key = key or (values.get("READ_KEY") if values.get("READ_ACCESS", "key") == "key" else None)
    access = {"x-enviromon-key": key} if key else {}
    if token:
        access["Authorization"] = f"Bearer {token}"
    return Target(api.rstrip("/"), parse_connection_string(text), access, options["ca_file"])


def registry_connection_string(hub: str) -> str:
    """Ask az for the hub's policy that may write the registry and nothing else."""
    policy = "registryReadWrite"
    shown = json.loads(output_of("az", "iot", "hub", "policy", "show", "--hub-name", hub, "--name", policy))
    return f"HostName={hub}.azure-devices.net;SharedAccessKeyName={policy};SharedAccessKey={shown['primaryKey']}"


def output_of(*command: str) -> str:
    """What the command prints. Raises EnviromonError where it fails."""
    path = shutil.which(command[0])
    if path is None:
        raise EnviromonError(f"{command[0]} is not on PATH: give --api and --connection-string instead")
    done = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnviromonError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


async def verify(target: Target, messages: int, patience: float) -> None:
    """Go through all steps. Raises RefutedError, TimeoutError and what the network raises."""
    click.echo(f"{target.api}, {target.hub.hostname}")
    timeout = aiohttp.ClientTimeout(total=FIRST_ANSWER_SECONDS)
    async with aiohttp.ClientSession(f"{target.api}/", headers=target.access, timeout=timeout) as api:
        with step("the API answers"):
            before = await get(api, "api/ledger")
        async with registered(target) as device, watching(target.api, target.access) as viewer:
            with step(f"the hub acknowledges {messages} messages of {DEVICE}"):
                last = await send(device, messages)
            with step("SignalR shows a viewer the last of them"):
                await shown(viewer, before, messages, patience)
            with step("the ledger agrees"):
                check_ledger(before, await get(api, "api/ledger"), messages)
            with step("the API tells the value that was sent last"):
                await check_value(api, last)


@contextlib.asynccontextmanager
async def registered(target: Target) -> AsyncIterator[IoTHubDeviceClient]:
    """The device's client, connected; the device is removed from the hub at the end."""
    trust = ssl.create_default_context(cafile=target.ca_file) if target.ca_file else None
    ca = await asyncio.to_thread(Path(target.ca_file).read_text) if target.ca_file else None
    async with HubRegistry(target.hub, trust) as registry:
        with step(f"the hub registers {DEVICE}"):
            key = await registry.ensure_device(DEVICE)
        text = f"HostName={target.hub.hostname};DeviceId={DEVICE};SharedAccessKey={key}"
        client = IoTHubDeviceClient.create_from_connection_string(text, server_verification_cert=ca)
        try:
            yield client
        finally:
            await client.shutdown()
            with step(f"the hub removes {DEVICE}"):
                await registry.remove(DEVICE)


async def send(device: IoTHubDeviceClient, messages: int) -> float:
    """Send readings, some at once; return the temperature of the last, sent when all others were acknowledged."""
    temperatures = [20 + index / 100 for index in range(messages)]
    async with asyncio.timeout(120):
        await device.connect()
        for start in range(0, messages - 1, AT_ONCE):
            some = temperatures[start : min(start + AT_ONCE, messages - 1)]
            await asyncio.gather(*(device.send_message(json.dumps({"temperature": each})) for each in some))
        await device.send_message(json.dumps({"temperature": temperatures[-1]}))
    return temperatures[-1]


async def shown(viewer: Viewer, before: Mapping[str, Any], messages: int, patience: float) -> None:
    """Wait until the viewer was shown the count that the device has now. Raises TimeoutError."""
    counts = before["devices"].get(DEVICE, {"accepted": 0, "late": 0})
    await viewer.until_device(DEVICE, counts["accepted"] + counts["late"] + messages, patience)


def check_ledger(before: Mapping[str, Any], after: Mapping[str, Any], messages: int) -> None:
    """Compare what the messages added; deliveries in excess are counted apart. Raises RefutedError."""
    old = before["devices"].get(DEVICE, {})
    added = {name: count - old.get(name, 0) for name, count in after["devices"][DEVICE].items()}
    counted = added["accepted"] + added["late"]
    if counted != messages or added["rejected"] or added["received"] != counted + added["duplicate"]:
        raise RefutedError(f"{messages} messages were acknowledged, and the ledger grew by {added}")


async def check_value(api: aiohttp.ClientSession, temperature: float) -> None:
    """Compare the device's state with what was sent last, before calibration. Raises RefutedError."""
    after = ""
    while after is not None:
        page = await get(api, "api/devices", {"after": after} if after else None)
        for view in page["devices"]:
            if view["deviceId"] == DEVICE:
                if view["raw"].get("temperature", view["temperature"]) != temperature:
                    raise RefutedError(f"{temperature} was sent last, and the state is {view}")
                return
        after = page["next"]
    raise RefutedError(f"/api/devices does not tell of {DEVICE}")


async def get(api: aiohttp.ClientSession, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read JSON from the API. Raises RefutedError with the API's own words, and aiohttp.ClientError."""
    async with api.get(path, params=query) as answer:
        if not answer.ok:
            raise RefutedError(f"GET /{path} answered {answer.status}: {(await answer.text())[:300]}")
        return await answer.json()


if __name__ == "__main__":
    main()
