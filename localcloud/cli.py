"""The `localcloud` command: `localcloud start APP_DIR` runs a Python v2 function app with its Azure services here.

`localcloud consumer-groups APP_DIR` shows who reads its event log, and removes who does no longer.

Exit codes: 0 done; 1 the app or the cloud cannot start, with a sentence on stderr; 2 the command line was wrong.
"""

import sys
from pathlib import Path
from typing import Any

import click

from localcloud.cloud import CloudSettings, LocalCloud
from localcloud.consumer_groups import ConsumerGroupError, consumer_groups, remove_consumer_group
from localcloud.functions.console import print_functions, reporter
from localcloud.limits import CloudLimits
from localcloud.reload import supervise
from localcloud.running import cloud_options, fitting, run_cloud, stop_signal
from localcloud.sqlite import DatabaseFaultError, SchemaTooNewError


@click.group()
@click.version_option(package_name="enviromon", prog_name="localcloud")
def main() -> None:
    """Azure IoT Hub, Functions and SignalR Service on your own machine, for any Python v2 function app."""


@main.command()
@click.argument("app_dir", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="[default: APP_DIR/.localcloud]")
@click.option("--static", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A site to serve at /.")
@click.option("--reload", is_flag=True, help="Start anew whenever a file of the app changes.")
@cloud_options
def start(
    app_dir: Path,
    *,
    data: Path | None,
    static: Path | None,
    reload: bool,
    verbose: bool,
    log_format: str,
    limits: CloudLimits,
    **listeners: Any,
) -> None:
    """Run the function app in APP_DIR until Ctrl-C.

    Connection strings that its settings do not hold are those of the local IoT Hub and SignalR.
    """
    del verbose
    if reload:
        arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
        sys.exit(supervise([sys.executable, "-m", "localcloud", *arguments], app_dir))
    directory = (data or app_dir / ".localcloud").absolute()
    settings = CloudSettings(
        app_dir=app_dir.absolute(),
        data=directory,
        static_dir=static,
        limits=fitting(limits),
        json_log=log_format == "json",
        **listeners,
    )
    run_cloud(directory, _serve(LocalCloud(settings, reporter(settings.app_dir, as_json=settings.json_log))))


@main.command(name="consumer-groups")
@click.argument("app_dir", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="[default: APP_DIR/.localcloud]")
@click.option("--remove", metavar="NAME", help="Remove the group NAME, which no function may read by.")
def show_consumer_groups(app_dir: Path, data: Path | None, remove: str | None) -> None:
    """List who reads the event log of the app in APP_DIR, and how far each is behind; or remove one."""
    directory = (data or app_dir / ".localcloud").absolute()
    try:
        if remove is not None:
            remove_consumer_group(directory, remove)
            click.echo(f"{remove} is removed")
            return
        for group in consumer_groups(directory):
            lag = sum(progress.lag for progress in group.partitions)
            reader = f"read by {group.read_by}" if group.read_by else "read by no function that runs"
            click.echo(f"{group.name}: {reader}, {lag:,} events behind")
    except (ConsumerGroupError, DatabaseFaultError, SchemaTooNewError) as error:
        raise click.ClickException(str(error)) from error


async def _serve(cloud: LocalCloud) -> None:
    stop = stop_signal()
    await cloud.start()
    try:
        print_functions(cloud.host.describe(cloud.url))
        facts = cloud.facts()
        click.echo(f"\nDevices: mqtts://{facts['hostname']}:{facts['ports']['mqtt']}, CA file {facts['caFile']}")
        click.echo("Ready. Ctrl-C ends it.\n")
        await stop.wait()
    finally:
        await cloud.stop()
