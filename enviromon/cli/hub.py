"""`enviromon hub`: how services reach the local hub, and who reads its event log."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from enviromon.cli.common import (
    console,
    data_option,
    json_option,
    only_without_command,
    print_facts,
    print_json,
    running_system,
    table,
    text,
)
from enviromon.errors import EnviromonError
from localcloud.consumer_groups import ConsumerGroup, ConsumerGroupError, remove_consumer_group
from localcloud.consumer_groups import consumer_groups as read_consumer_groups
from localcloud.keys import load_or_create_keys

if TYPE_CHECKING:
    from rich.table import Table


@click.group(invoke_without_command=True, short_help="Show how services reach the local hub, and who reads it.")
@data_option
@json_option
@click.pass_context
def hub(context: click.Context, data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """Show the local hub's ports, its CA file and the connection string for the service SDK (a secret)."""
    if not only_without_command(context):
        return
    running = running_system(data)
    if not running:
        raise EnviromonError(f"nothing runs on {data}: start `enviromon up`, or name another directory with --data")
    facts = {
        "hostname": running["hostname"],
        "mqttPort": running["ports"]["mqtt"],
        "httpsPort": running["ports"]["https"],
        "caFile": running["caFile"],
        "connectionString": service_connection_string(data, running),
    }
    print_facts(facts, as_json=as_json)


@hub.group(invoke_without_command=True, short_help="List who reads the event log, and how far each is behind.")
@data_option
@json_option
@click.pass_context
def consumer_groups(context: click.Context, data: Path, as_json: bool) -> None:  # noqa: FBT001
    """List the consumer groups of the local hub: what each has finished, and by how many events it is behind.

    A group whose function was renamed or removed stays, and the log keeps events for it: remove it.
    """
    if not only_without_command(context):
        return
    try:
        groups = read_consumer_groups(data)
    except ConsumerGroupError as error:
        raise EnviromonError(str(error)) from error
    if as_json:
        print_json(msgspec.to_builtins(groups))
        return
    console().print(_shown(groups))
    if running_system(data):
        for group in groups:
            if group.read_by is None:
                click.echo(f"Nothing reads by {group.name}: `enviromon hub consumer-groups remove {group.name}`")


@consumer_groups.command()
@click.argument("name")
@data_option
def remove(name: str, data: Path) -> None:
    """Remove the consumer group NAME, which no function of the running app may read: the log keeps nothing for it."""
    try:
        remove_consumer_group(data, name)
    except ConsumerGroupError as error:
        raise EnviromonError(str(error)) from error
    click.echo(f"{name} is removed")


def _shown(groups: list[ConsumerGroup]) -> "Table":
    rows = table(
        "consumer group", "read by", "partition", "checkpoint", "lag", right={"partition", "checkpoint", "lag"}
    )
    for group in groups:
        for each in group.partitions:
            rows.add_row(
                text(group.name), group.read_by or "", f"{each.partition}", f"{each.checkpoint:,}", f"{each.lag:,}"
            )
    return rows


def service_connection_string(data: Path, running: Mapping[str, Any]) -> str:
    """The owner's connection string of the hub that runs on the data directory."""
    key = load_or_create_keys(data / "keys.json").iothubowner
    host = f"{running['hostname']}:{running['ports']['https']}"
    return f"HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={key}"
