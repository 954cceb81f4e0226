"""Before `azd provision`: look whether everything needed is here, and make the readers' key once.

Run by azd with the values of its environment; the standard library alone. docs/azure.md tells of the values.
"""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

NEEDED = {"az": "https://learn.microsoft.com/cli/azure/install-azure-cli", "npm": "https://nodejs.org (20 or newer)"}


def obstacles(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what would fail the deployment half-way, a sentence each."""
    for tool, source in NEEDED.items():
        if shutil.which(tool) is None:
            yield f"{tool} is not on PATH: {source}"
    access = environment.get("READ_ACCESS", "key")
    if access not in ("key", "open", "entra"):
        yield f"READ_ACCESS is {access!r}: it must be key, open or entra"
    if access == "entra" and not environment.get("ENTRA_CLIENT_ID"):
        yield "READ_ACCESS is entra: ENTRA_CLIENT_ID must name the app registration"


def main() -> None:
    """See above. Ends with 1 and a sentence where something is missing."""
    if found := list(obstacles(os.environ)):
        sys.exit("\n".join(found))
    if subprocess.run([shutil.which("az") or "az", "account", "show", "--output", "none"], check=False).returncode:
        sys.exit("The Azure CLI is not signed in: run `az login`. (`azd auth login` is another sign-in.)")
    if os.environ.get("READ_ACCESS", "key") == "key" and not os.environ.get("READ_KEY"):
        subprocess.run([shutil.which("azd") or "azd", "env", "set", "READ_KEY", secrets.token_urlsafe(24)], check=True)


if __name__ == "__main__":
    main()
