"""After `azd deploy`: build the dashboard, tell it where its API is, and upload it as a static website.

Run by azd with the values of its environment (infra/main.bicep's outputs among them); the standard library alone.
A static website sends no headers of its own, so the content security policy goes into the page, with exactly the
addresses that this deployment has.
"""

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

DASHBOARD = Path(__file__).parents[2] / "dashboard"
LOGIN = "https://login.microsoftonline.com"
IMMUTABLE = "public, max-age=31536000, immutable"
FRESH = "no-cache"
PATIENCE_SECONDS = 600
"""How long a new role may take to be known everywhere."""
RETRY_SECONDS = 15.0


def page_config(environment: Mapping[str, str]) -> dict[str, object]:
    """What config.json says; dashboard/src/config.ts reads it."""
    config: dict[str, object] = {"apiBaseUrl": environment["API_URL"]}
    if environment.get("READ_ACCESS") == "entra":
        client = environment["ENTRA_CLIENT_ID"]
        config["signIn"] = {
            "authority": f"{LOGIN}/{environment['AZURE_TENANT_ID']}",
            "clientId": client,
            "scope": f"api://{client}/user_impersonation",
        }
    return config


def content_security_policy(environment: Mapping[str, str]) -> str:
    """The strictest policy under which the page works: its own files, its API, its SignalR service, its sign-in."""
    api, service = environment["API_URL"], environment["SIGNALR_URL"]
    socket = urlsplit(service)._replace(scheme="wss" if service.startswith("https:") else "ws").geturl()
    connect = ["'self'", api, service, socket]
    frames = "'none'"
    if environment.get("READ_ACCESS") == "entra":
        connect.append(LOGIN)
        frames = LOGIN
    return (
        f"default-src 'self'; connect-src {' '.join(connect)}; frame-src {frames}; "
        "object-src 'none'; base-uri 'none'; form-action 'none'"
    )


def render(built: Path, site: Path, environment: Mapping[str, str]) -> None:
    """Copy the built page to `site`, with this deployment's config.json and content security policy."""
    shutil.copytree(built, site, ignore=shutil.ignore_patterns(".done"))
    (site / "config.json").write_text(json.dumps(page_config(environment), indent=2) + "\n")
    page = (site / "index.html").read_text()
    charset = '<meta charset="utf-8" />'
    if page.count(charset) != 1:
        sys.exit(f"{built / 'index.html'} has no {charset} after which the content security policy could stand")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{content_security_policy(environment)}" />'
    (site / "index.html").write_text(page.replace(charset, f"{charset}\n    {policy}"))


def upload_commands(account: str, site: Path, now: dt.datetime) -> list[list[str]]:
    """The az commands in their order: what the new page needs, the page, then the end of what the old one needed."""
    where = ["--account-name", account, "--auth-mode", "login", "--only-show-errors", "--output", "none"]
    upload = ["storage", "blob", "upload-batch", *where, "--destination", "$web", "--overwrite", "true"]
    assets = ["--source", str(site / "assets"), "--destination-path", "assets", "--content-cache-control", IMMUTABLE]
    page = ["--source", str(site), "--content-cache-control", FRESH]
    website = ["--static-website", "true", "--index-document", "index.html"]
    older = ["--source", "$web", "--pattern", "assets/*", "--if-unmodified-since", now.strftime("%Y-%m-%dT%H:%MZ")]
    return [
        ["storage", "blob", "service-properties", "update", *where, *website],
        [*upload, *assets],
        *([*upload, *page, "--pattern", pattern] for pattern in ("*.svg", "config.json", "index.html")),
        ["storage", "blob", "delete-batch", *where, *older],
    ]


def run_az(arguments: list[str], deadline: float) -> None:
    """Run az; a refusal is tried again until the deadline (of time.monotonic), since new roles spread slowly."""
    while True:
        done = subprocess.run([shutil.which("az") or "az", *arguments], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        refused = any(word in done.stderr for word in ("AuthorizationPermissionMismatch", "required permissions"))
        if not refused or time.monotonic() > deadline:
            sys.exit(f"az {' '.join(arguments[:4])} failed:\n{done.stderr}")
        print("The role that lets you upload is not known everywhere yet; trying again.", flush=True)
        time.sleep(RETRY_SECONDS)


def build() -> Path:
    """Build the dashboard; return where it is."""
    npm = [shutil.which("npm") or "npm", "--prefix", str(DASHBOARD)]
    subprocess.run([*npm, "ci", "--no-audit", "--no-fund", "--silent"], check=True)
    subprocess.run([*npm, "run", "--silent", "build"], check=True)
    return DASHBOARD / "dist"


def farewell(environment: Mapping[str, str]) -> str:
    """What to do next, for whoever deployed."""
    key = environment.get("READ_KEY") if environment.get("READ_ACCESS", "key") == "key" else None
    page = environment["DASHBOARD_URL"] + (f"/#key={quote(key, safe='')}" if key else "/")
    hub = environment["IOT_HUB"]
    return f"""
Dashboard   {page}
Register a device, and print what it connects with:
  az extension add --name azure-iot
  az iot hub device-identity create --hub-name {hub} --device-id my-first-sensor
  az iot hub device-identity connection-string show --hub-name {hub} --device-id my-first-sensor
See that all of it works, in a minute or two:
  scripts/verify-azure
"""


def main() -> None:
    """See above."""
    environment = os.environ
    account = environment["DASHBOARD_ACCOUNT"]
    with tempfile.TemporaryDirectory() as directory:
        site = Path(directory) / "site"
        render(build(), site, environment)
        deadline = time.monotonic() + PATIENCE_SECONDS
        for command in upload_commands(account, site, dt.datetime.now(dt.UTC)):
            run_az(command, deadline)
    print(farewell(environment))


if __name__ == "__main__":
    main()
