"""Which storage account, and as whom: a connection as Azure Functions' own settings give it.

`NAME` holds a connection string; or `NAME__tableServiceUri` (or `NAME__accountName`) the account, and the identity is
a managed one (`NAME__credential` = `managedidentity`, `NAME__clientId` names a user-assigned one), without
`NAME__credential` whichever DefaultAzureCredential finds.
https://learn.microsoft.com/azure/azure-functions/functions-reference#configure-an-identity-based-connection
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from enviromon.errors import SettingsError

_ACCOUNT_NAME: Final = re.compile(r"[a-z0-9]{3,24}")


class Connection(Struct, frozen=True, kw_only=True):
    """An account: its connection string, or its endpoint and an identity."""

    connection_string: str = ""
    endpoint: str = ""
    is_managed_identity: bool = False
    client_id: str | None = None

    def __repr__(self) -> str:
        """Leave the connection string out: it holds a key."""
        return f"Connection(endpoint={self.endpoint!r}, ...)"


def read_connection(name: str, environment: Mapping[str, str]) -> Connection:
    """Find the connection of that name; raises SettingsError naming the setting that is missing or wrong."""
    if text := environment.get(name):
        return Connection(connection_string=text)
    endpoint = environment.get(f"{name}__tableServiceUri") or _endpoint(name, environment.get(f"{name}__accountName"))
    if not endpoint:
        raise SettingsError(
            f"the storage connection {name!r} is not known: set {name} to a connection string, "
            f"or {name}__tableServiceUri to the account's address"
        )
    if urlsplit(endpoint).scheme != "https":
        raise SettingsError(f"{name}__tableServiceUri must begin with https://: an identity's token travels there")
    credential = environment.get(f"{name}__credential", "")
    if credential.lower() not in {"", "managedidentity"}:
        raise SettingsError(f"{name}__credential is {credential!r}: it must be managedidentity, or left out")
    return Connection(
        endpoint=endpoint,
        is_managed_identity=bool(credential),
        client_id=environment.get(f"{name}__clientId") or None,
    )


def _endpoint(name: str, account: str | None) -> str | None:
    if not account:
        return None
    if not _ACCOUNT_NAME.fullmatch(account):
        raise SettingsError(
            f"{name}__accountName is {account!r}: an account's name is 3 to 24 small letters and digits"
        )
    return f"https://{account}.table.core.windows.net"
