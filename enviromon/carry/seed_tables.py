"""Reads a seed's tables in an Azure storage account, and joins what they hold with the stores."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from enviromon.carry.seed import SeedError, seed_device, seed_version
from enviromon.carry.transfer import Importer
from enviromon.stores.azure_tables.connection import Connection
from enviromon.stores.azure_tables.keys import escaped
from enviromon.stores.azure_tables.service import Account

UNMAPPED_SHOWN: Final = 50


async def import_seed(
    importer: Importer,
    connection: Connection,
    ids: Mapping[str, str],
    *,
    table: str,
    calibration_table: str | None,
    partition: str | None = None,
    skip_unmapped: bool = False,
    warn: Callable[[str], None],
) -> None:
    """Take over the rows of both tables for the devices of the map; nothing is written to the account.

    All rows are looked at before the first is taken over. Raises SeedError where some are not in the map (unless they
    are to be skipped) or the table has several partitions and none was chosen, StorageError.
    """
    account = Account(connection, "", makes_tables=False)
    try:
        await _check(account, table, ids, partition, skip_unmapped=skip_unmapped, warn=warn)
        async for row in _rows(account, table, partition):
            if (device_id := ids.get(row["RowKey"])) is not None:
                at = round(row.metadata["timestamp"].timestamp() * 1000)  # type: ignore[attr-defined]
                found = seed_device(device_id, row, at)
                if found.left_out:
                    warn(f"{row['RowKey']}: {', '.join(found.left_out)} is not believable and left out")
                await importer.bring_state(found.state)
        if calibration_table is not None:
            async for row in _rows(account, calibration_table, partition):
                if (device_id := ids.get(row["RowKey"])) is not None and (version := seed_version(row)) is not None:
                    await importer.bring_version(device_id, version)
        await importer.finish()
    finally:
        await account.close()


async def _check(
    account: Account,
    table: str,
    ids: Mapping[str, str],
    partition: str | None,
    *,
    skip_unmapped: bool,
    warn: Callable[[str], None],
) -> None:
    partitions, unmapped = set(), []
    async for row in _rows(account, table, partition):
        partitions.add(row["PartitionKey"])
        if row["RowKey"] not in ids:
            unmapped.append(row["RowKey"])
    if len(partitions) > 1:
        raise SeedError(f"{table} has the partitions {', '.join(sorted(partitions)[:5])}: choose one")
    if unmapped:
        names = ", ".join(unmapped[:UNMAPPED_SHOWN]) + (", ..." if len(unmapped) > UNMAPPED_SHOWN else "")
        if not skip_unmapped:
            raise SeedError(f"{len(unmapped):,} rows of {table} are not in the id map: {names}; map them, or skip them")
        warn(f"{len(unmapped):,} rows are not in the id map and left behind: {names}")


async def _rows(account: Account, table: str, partition: str | None) -> AsyncIterator[Mapping[str, Any]]:
    within = "PartitionKey ge ''" if partition is None else f"PartitionKey eq '{escaped(partition)}'"
    where = within
    while True:
        rows, is_more = await account.query(table, where)
        for row in rows:
            yield row
        if not is_more:
            return
        key, last = (escaped(rows[-1][name]) for name in ("PartitionKey", "RowKey"))
        beyond = f"PartitionKey gt '{key}' or (PartitionKey eq '{key}' and RowKey gt '{last}')"
        where = f"({within}) and ({beyond})"
