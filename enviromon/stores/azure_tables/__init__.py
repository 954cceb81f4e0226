"""The stores in Azure Tables: `azure-tables:CONNECTION[/PREFIX]`.

keys.py        where each row lies                                 pure
entities.py    what stands in it                                   pure
connection.py  which account, and as whom                          pure
service.py     transactions and queries, and what failures mean
stores.py      the ports
"""

import logging
import re
from collections.abc import Mapping
from typing import Final

from enviromon.errors import SettingsError
from enviromon.stores import Stores
from enviromon.stores.azure_tables.connection import read_connection
from enviromon.stores.azure_tables.keys import check_site
from enviromon.stores.azure_tables.service import ANSWER_SECONDS, Account
from enviromon.stores.azure_tables.stores import TablesCalibrationStore, TablesDeadLetterStore, TablesDeviceStore

PREFIX: Final = "enviromon"
_URL_PATH: Final = re.compile(r"(?P<connection>[A-Za-z_][A-Za-z0-9_:.]*)(?:/(?P<prefix>[A-Za-z][A-Za-z0-9]{0,39}))?")


def open_azure_tables(
    path: str, site: str, environment: Mapping[str, str], *, buckets: int = 1, answer_seconds: float = ANSWER_SECONDS
) -> Stores:
    """Return the stores of one site; `path` is CONNECTION or CONNECTION/PREFIX, as in the URL.

    Raises SettingsError where the path, the connection that it names or the site is not acceptable.
    """
    parts = _URL_PATH.fullmatch(path)
    if parts is None:
        raise SettingsError(
            "STORE_URL must look like azure-tables:CONNECTION or azure-tables:CONNECTION/PREFIX, the prefix a letter "
            f"and up to 39 letters and digits, not azure-tables:{path}"
        )
    check_site(site)
    _quiet_the_sdk()
    connection = read_connection(parts["connection"], environment)
    account = Account(connection, parts["prefix"] or PREFIX, answer_seconds=answer_seconds)
    return Stores(
        TablesDeviceStore(account, site, buckets),
        TablesCalibrationStore(account, site),
        TablesDeadLetterStore(account, site),
        account.close,
    )


def _quiet_the_sdk() -> None:
    """Every call is told twice at INFO otherwise, which Azure's worker passes on; whoever set a level keeps it."""
    logger = logging.getLogger("azure.core.pipeline.policies.http_logging_policy")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
