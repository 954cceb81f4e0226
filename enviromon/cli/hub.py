"""`enviromon hub`: how services reach the local hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from enviromon.cli.common import data_option, json_option, print_facts, running_system
from enviromon.errors import EnviromonError
from localcloud.keys import load_or_create_keys


@click.command(short_help="Show how services reach the local hub.")
@data_option
@json_option
def hub(data: Path, as_json: bool) -> None:  # noqa: FBT001 - click's signature
    """Show the local hub's ports, its CA file and the connection string for the service SDK (a secret)."""
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


def service_connection_string(data: Path, running: Mapping[str, Any]) -> str:
    """The owner's connection string of the hub that runs on the data directory."""
    key = load_or_create_keys(data / "keys.json").iothubowner
    host = f"{running['hostname']}:{running['ports']['https']}"
    return f"HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={key}"
