"""`enviromon export` and `enviromon import`: data carried over to another store, another hub, another machine."""

import contextlib
import datetime as dt
import os
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any

import click

from enviromon import __version__
from enviromon.carry.merging import Fate
from enviromon.carry.records import (
    FORMAT,
    KINDS,
    MAX_LINE_BYTES,
    VERSION,
    DeviceRecord,
    End,
    Header,
    Record,
    line,
    read,
)
from enviromon.carry.registry import DeviceRegistry
from enviromon.carry.transfer import Importer, Report, exported
from enviromon.cli.common import (
    console,
    data_option,
    is_local,
    json_option,
    print_json,
    running_system,
    settings,
    table,
    with_stores,
)
from enviromon.cli.hub import service_connection_string
from enviromon.errors import EnviromonError
from enviromon.hub_registry import HubRegistry, RegisteredDevice, parse_connection_string
from enviromon.stores import Stores
from localcloud.iothub.registry import Device, Registry, RegistryError

DEVICES_PER_PAGE = 1000


@click.command(short_help="Write devices, calibrations and states to a file.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file.  [default: stdout]")
@click.option("--dead-letters", is_flag=True, help="Dead letters as well.")
@click.option("--with-keys", is_flag=True, help="The devices' keys as well: secrets.")
@data_option
def export(output: Path | None, dead_letters: bool, with_keys: bool, data: Path) -> None:  # noqa: FBT001 - click's
    """Write the local hub's devices, all calibrations and all states with their ledgers, as JSON lines.

    docs/carry-data.md describes the format and how to move from one system to another.
    """
    if with_keys and output is None:
        if sys.stdout.isatty():
            raise click.UsageError("keys do not belong on a screen: name a file with --output, or a pipe")
        click.echo("The keys of all devices go into this pipe: whoever has them can send as these devices.", err=True)

    async def work(stores: Stores) -> Counter[str]:
        with _private_file(output) as file:
            return await _export(stores, file, data, dead_letters=dead_letters, with_keys=with_keys)

    counts = with_stores(data, work)
    told = ", ".join(f"{kind} {counts[kind]:,}" for kind in KINDS.values())
    click.echo(f"exported: {told}{'' if with_keys else '; no keys'}", err=True)


@click.command(name="import", short_help="Bring in what `export` wrote, or a seed's tables.")
@click.argument("file", type=click.File("rb", lazy=False), required=False)
@click.option("--overwrite", is_flag=True, help="Replace what is newer or different here.")
@click.option("--dry-run", is_flag=True, help="Tell what would come of it, and change nothing.")
@click.option(
    "--connection-string", envvar="IOTHUB_CONNECTION_STRING", help="The IoT Hub's that shall have the devices."
)
@click.option("--ca-file", type=click.Path(dir_okay=False, exists=True), help="The CA of that hub's certificate.")
@click.option("--seed-table", metavar="TABLE", help="In place of FILE: carry on a seed, whose states are in TABLE.")
@click.option("--seed-account", metavar="SETTING", help="The environment's name for its storage connection.")
@click.option("--seed-calibrations", metavar="TABLE", help="Its calibrations.  [default: none]")
@click.option("--seed-partition", metavar="KEY", help="Its PartitionKey, where the table has several.")
@click.option("--id-map", type=click.File("rb"), help="JSON: the seed's deviceId to the hub's device id.")
@click.option("--skip-unmapped", is_flag=True, help="Leave rows behind that are not in the map.")
@data_option
@json_option
def import_(file: IO[bytes] | None, **options: Any) -> None:
    """Bring the records of FILE (`-`: stdin) into the store, and its devices into the hub. Twice is like once.

    The store is the data directory's, or STORE_URL's. The hub is the one of --connection-string, or the local one. What
    is newer or different here stays, unless --overwrite. Ends with 1 where a record was refused.
    """
    _check_source(file, options)

    async def work(stores: Stores) -> Report:
        if file is None:
            return await _import_seed(stores, options)
        async with _registry(options) as registry:
            importer = Importer(stores, registry, overwrite=options["overwrite"], is_dry_run=options["dry_run"])
            return await importer.run(read(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b"")))

    show_report(with_stores(options["data"], work, may_create=not options["dry_run"]), options)


def _check_source(file: IO[bytes] | None, options: dict[str, Any]) -> None:
    if (file is None) == (options["seed_table"] is None):
        raise click.UsageError("name what to import: either FILE or --seed-table")
    if options["seed_table"] and not (options["seed_account"] and options["id_map"]):
        raise click.UsageError("--seed-table needs --seed-account and --id-map")


async def _import_seed(stores: Stores, options: dict[str, Any]) -> Report:
    from enviromon.carry.seed import carried_on, read_map  # noqa: PLC0415 - the tables' packages load when needed
    from enviromon.carry.seed_tables import import_seed  # noqa: PLC0415
    from enviromon.stores.azure_tables.connection import read_connection  # noqa: PLC0415

    importer = Importer(stores, None, overwrite=options["overwrite"], is_dry_run=options["dry_run"], join=carried_on)
    await import_seed(
        importer,
        read_connection(options["seed_account"], os.environ),
        read_map(options["id_map"].read()),
        table=options["seed_table"],
        calibration_table=options["seed_calibrations"],
        partition=options["seed_partition"],
        skip_unmapped=options["skip_unmapped"],
        warn=lambda sentence: click.echo(sentence, err=True),
    )
    return importer.report


def show_report(report: Report, options: dict[str, Any]) -> None:
    """Print an import's report; ends with exit code 1 where records were refused."""
    if options["as_json"]:
        fates = {
            kind: {fate.name.lower(): count for fate, count in found.items()} for kind, found in report.fates.items()
        }
        print_json({"dryRun": options["dry_run"], **fates, "skipped": report.skipped, "refused": report.refused})
    else:
        _print(report, dry_run=options["dry_run"])
    if report.refused:
        raise EnviromonError("what was refused is different here: compare the two; --overwrite replaces what is here")


def _print(report: Report, *, dry_run: bool) -> None:
    rows = table("what", "would be" if dry_run else "was", "count", right={"count"})
    for kind, fates in report.fates.items():
        for fate in Fate:
            if count := fates[fate]:
                rows.add_row(kind, str(fate), f"{count:,}")
    console().print(rows)
    for kind, device_ids in report.refused.items():
        more = ", ..." if report.fates[kind][Fate.REFUSED] > len(device_ids) else ""
        console().print(f"{kind} refused: {', '.join(device_ids)}{more}")
    if skipped := report.skipped[KINDS[DeviceRecord]]:
        console().print(f"{skipped:,} devices were left out: name their IoT Hub with --connection-string")


async def _export(stores: Stores, file: IO[bytes], data: Path, *, dead_letters: bool, with_keys: bool) -> Counter[str]:
    counts: Counter[str] = Counter()
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    site = settings(data).site
    file.write(line(Header(format=FORMAT, version=VERSION, site=site, exported_at=now, program=__version__)))

    def write(record: Record) -> None:
        counts[KINDS[type(record)]] += 1
        file.write(line(record))

    for device in _local_devices(data):
        keys = {"primary_key": device.primary_key, "secondary_key": device.secondary_key} if with_keys else {}
        write(DeviceRecord(device_id=device.device_id, status=device.status, **keys))
    async for record in exported(stores, dead_letters=dead_letters):
        write(record)
    file.write(line(End(counts={kind: counts[kind] for kind in KINDS.values()})))
    return counts


@contextlib.contextmanager
def _private_file(output: Path | None) -> Iterator[IO[bytes]]:
    """A file of mode 0600 that appears once it is whole, or stdout."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = output.with_name(output.name + ".new")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            yield file
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(output)
    except OSError as error:
        raise EnviromonError(f"{output} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _has_hub(data: Path) -> bool:
    return (data / "hub.db").exists()


def _local_devices(data: Path) -> Iterator[Device]:
    if not (is_local(settings(data), data) and _has_hub(data)):
        return
    with contextlib.closing(Registry.open(data / "hub.db")) as registry:
        last = ""
        while page := registry.list(after=last, limit=DEVICES_PER_PAGE):
            yield from page
            last = page[-1].device_id


@contextlib.asynccontextmanager
async def _registry(options: dict[str, Any]) -> AsyncIterator[DeviceRegistry | None]:
    """The hub that shall have the devices; None where there is none to bring them to."""
    data: Path = options["data"]
    if options["connection_string"]:
        hub, tls = parse_connection_string(options["connection_string"]), None
        if options["ca_file"]:
            tls = ssl.create_default_context(cafile=options["ca_file"])
    elif not is_local(settings(data), data):
        yield None
        return
    elif running := running_system(data):
        hub = parse_connection_string(service_connection_string(data, running))
        tls = ssl.create_default_context(cafile=running["caFile"])
    elif options["dry_run"] and not _has_hub(data):
        yield _EmptyHub()
        return
    else:
        with contextlib.closing(Registry.open(data / "hub.db")) as registry:
            yield _StoppedHub(registry)
        return
    async with HubRegistry(hub, tls) as remote:
        yield remote


class _EmptyHub:
    """The local hub's registry where none was made yet, for a dry run."""

    async def get(self, device_id: str) -> RegisteredDevice | None:  # noqa: ARG002 - it knows no device
        """See DeviceRegistry."""
        return None

    async def add(self, device: RegisteredDevice) -> RegisteredDevice:
        """See DeviceRegistry."""
        raise NotImplementedError

    update = add


class _StoppedHub:
    """The local hub's registry while no hub runs on it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def get(self, device_id: str) -> RegisteredDevice | None:
        """See DeviceRegistry."""
        found = self._registry.get(device_id)
        return None if found is None else _registered(found)

    async def add(self, device: RegisteredDevice) -> RegisteredDevice:
        """See DeviceRegistry."""
        return self._write(device, self._registry.add)

    async def update(self, device: RegisteredDevice) -> RegisteredDevice:
        """See DeviceRegistry."""
        return self._write(device, self._registry.update, etag=device.etag)

    def _write(self, device: RegisteredDevice, write: Any, **options: str) -> RegisteredDevice:
        try:
            return _registered(
                write(
                    device.device_id,
                    status=device.status,
                    primary_key=device.primary_key,
                    secondary_key=device.secondary_key,
                    **options,
                )
            )
        except RegistryError as error:
            raise EnviromonError(str(error)) from error


def _registered(device: Device) -> RegisteredDevice:
    return RegisteredDevice(device.device_id, device.status, device.primary_key, device.secondary_key, device.etag)
