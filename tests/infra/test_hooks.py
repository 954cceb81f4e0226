"""azd's hooks: what they make and in which order they hand it to the Azure CLI."""

import datetime as dt
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[2] / "infra/hooks"
ENVIRONMENT = {
    "API_URL": "https://func-abc.azurewebsites.net",
    "DASHBOARD_ACCOUNT": "webabc",
    "DASHBOARD_URL": "https://webabc.z6.web.core.windows.net",
    "SIGNALR_URL": "https://sigr-abc.service.signalr.net",
    "IOT_HUB": "iot-abc",
    "AZURE_TENANT_ID": "7f0c",
}
ENTRA = {**ENVIRONMENT, "READ_ACCESS": "entra", "ENTRA_CLIENT_ID": "c1e4"}


def load(name):
    spec = importlib.util.spec_from_file_location(name, HOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare, publish = load("prepare"), load("publish_dashboard")


@pytest.fixture
def built(tmp_path):
    """A page as Vite builds it from this project's index.html."""
    directory = tmp_path / "dist"
    (directory / "assets").mkdir(parents=True)
    (directory / "assets/index-abc.js").write_text("")
    (directory / "index.html").write_text((HOOKS.parents[1] / "dashboard/index.html").read_text())
    (directory / "config.json").write_text('{ "apiBaseUrl": "" }')
    return directory


def directives(policy):
    return {name: words for name, *words in (part.split() for part in policy.split(";"))}


def test_the_page_is_told_its_api_and_kept_to_its_own_addresses(built, tmp_path):
    publish.render(built, tmp_path / "site", ENVIRONMENT)
    assert json.loads((tmp_path / "site/config.json").read_text()) == {"apiBaseUrl": ENVIRONMENT["API_URL"]}
    page = (tmp_path / "site/index.html").read_text()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)" />', page)
    assert page.index("Content-Security-Policy") < page.index("<script")
    allowed = directives(policy)
    assert allowed["default-src"] == ["'self'"]
    assert allowed["connect-src"] == [
        *("'self'", "https://func-abc.azurewebsites.net"),
        *("https://sigr-abc.service.signalr.net", "wss://sigr-abc.service.signalr.net"),
    ]
    assert allowed["frame-src"] == allowed["object-src"] == ["'none'"]


def test_with_entra_the_page_signs_in_there(built, tmp_path):
    publish.render(built, tmp_path / "site", ENTRA)
    assert json.loads((tmp_path / "site/config.json").read_text())["signIn"] == {
        "authority": "https://login.microsoftonline.com/7f0c",
        "clientId": "c1e4",
        "scope": "api://c1e4/user_impersonation",
    }
    allowed = directives(publish.content_security_policy(ENTRA))
    assert "https://login.microsoftonline.com" in allowed["connect-src"]


def test_the_page_is_uploaded_after_what_it_needs_and_before_the_old_files_go():
    now = dt.datetime(2026, 3, 4, 12, 0, tzinfo=dt.UTC)
    enable, assets, *page, remove = publish.upload_commands("webabc", Path("site"), now)
    assert enable[:4] == ["storage", "blob", "service-properties", "update"]
    assert assets[assets.index("--destination-path") + 1] == "assets"
    assert publish.IMMUTABLE in assets
    assert [command[command.index("--pattern") + 1] for command in page] == ["*.svg", "config.json", "index.html"]
    assert all(publish.FRESH in command for command in page)
    assert remove[2] == "delete-batch"
    assert remove[-1] == "2026-03-04T12:00Z"


def test_no_account_key_is_used():
    for command in publish.upload_commands("webabc", Path("site"), dt.datetime.now(dt.UTC)):
        assert command[command.index("--auth-mode") + 1] == "login"


def stand_in_for(tool, directory, script):
    """Make a program of that name; return a PATH on which it comes first."""
    program = directory / tool
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def test_a_role_that_is_not_known_yet_is_waited_for(tmp_path, monkeypatch, capsys):
    script = (
        f'[ -f {tmp_path}/known ] && exit 0; touch {tmp_path}/known; echo "AuthorizationPermissionMismatch" >&2; exit 1'
    )
    monkeypatch.setenv("PATH", stand_in_for("az", tmp_path, script))
    monkeypatch.setattr(publish, "RETRY_SECONDS", 0.01)
    publish.run_az(["storage"], float("inf"))
    assert "not known everywhere yet" in capsys.readouterr().out


def test_any_other_failure_of_az_ends_the_hook_with_its_words(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stand_in_for("az", tmp_path, "echo 'no such account' >&2; exit 3"))
    with pytest.raises(SystemExit, match="no such account"):
        publish.run_az(["storage", "blob", "upload-batch"], float("inf"))


def test_the_readers_key_is_in_the_fragment_of_the_address_and_only_where_it_is_needed():
    assert "net/#key=a%2Fb\n" in publish.farewell({**ENVIRONMENT, "READ_KEY": "a/b"})
    assert "net/\n" in publish.farewell({**ENVIRONMENT, "READ_KEY": "a/b", "READ_ACCESS": "open"})


def run_prepare(tmp_path, **values):
    for tool in ("npm", "azd"):
        stand_in_for(tool, tmp_path, f'echo "$@" >> {tmp_path}/log')
    path = stand_in_for("az", tmp_path, "exit ${SIGNED_OUT:-0}")
    environment = {"PATH": path, **values}
    return subprocess.run(
        [sys.executable, HOOKS / "prepare.py"], env=environment, capture_output=True, text=True, check=False
    )


def test_the_readers_key_is_made_once(tmp_path):
    assert run_prepare(tmp_path).returncode == 0
    made = (tmp_path / "log").read_text().split()
    assert made[:3] == ["env", "set", "READ_KEY"]
    assert len(made[3]) == 32
    assert run_prepare(tmp_path, READ_KEY=made[3]).returncode == 0
    assert run_prepare(tmp_path, READ_ACCESS="open").returncode == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"READ_ACCESS": "everybody"}, "must be key, open or entra"),
        ({"READ_ACCESS": "entra"}, "ENTRA_CLIENT_ID"),
        ({"SIGNED_OUT": "1"}, "az login"),
    ],
)
def test_what_would_fail_half_way_is_said_before(tmp_path, values, said):
    done = run_prepare(tmp_path, **values)
    assert done.returncode == 1
    assert said in done.stderr
