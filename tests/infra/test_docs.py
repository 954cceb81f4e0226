"""What the docs tell of the deployment is what the deployment does."""

import json
import re
from pathlib import Path

from click.testing import CliRunner

from enviromon.cli import main
from tests.infra.checks import APP, APP_ROLES, GRANTS, PARAMETERS, ROLE_IDS, app_settings, parsed
from tests.infra.test_infra import FILES

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "azure.md").read_text()
STEPS = (DOCS / "azure-step-by-step.md").read_text()


def test_the_steps_set_every_setting_that_the_deployment_sets():
    (line,) = re.findall(r"config appsettings set .*", STEPS)
    names = [text.partition("=")[0] for text in re.findall(r'"([^"]*)"', line)]
    assert sorted(names) == sorted(app_settings(parsed(FILES[APP])))


def test_the_steps_grant_every_role_that_the_deployment_grants_but_the_hubs():
    granted = set(re.findall(r'--role "([^"]*)"', STEPS))
    spelled = {re.sub(r"(?<!^)(?=[A-Z](?![A-Z]))", " ", role[0].upper() + role[1:]) for role in ROLE_IDS}
    assert granted - {"Key Vault Secrets Officer"} == {role.replace("Signal R", "SignalR") for role in spelled}


def test_the_guide_counts_the_identities_and_what_they_are_granted():
    grants = [(who, role) for *_, who, what in GRANTS for role in (APP_ROLES if what == "appRoles" else [what])]
    made = parsed(FILES["infra/modules/identities.bicep"]).of_type("Microsoft.ManagedIdentity/userAssignedIdentities")
    yours = [role for who, role in grants if who == "deployerId"]
    numbers = {1: "one", 2: "two", 7: "seven"}
    counted = (numbers[len(made)].capitalize(), numbers[len(grants) - len(yours)], numbers[len(yours)])
    assert "**{} identities, {} grants, and {} to you**".format(*counted) in GUIDE


def test_the_guide_tells_every_value_with_its_default():
    parameters = json.loads(FILES[PARAMETERS])["parameters"].values()
    defaults = dict(re.fullmatch(r"\$\{(\w+)=?(.*)\}", each["value"]).groups() for each in parameters)
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| (`[^|]*`) \|", GUIDE, re.MULTILINE)
    told = {
        name: default
        for names, values in rows
        for name, default in zip(re.findall(r"[A-Z_]+", names), re.findall(r"`([^`]*)`", values), strict=True)
    }
    assert told == {name: default for name, default in defaults.items() if default}


def test_the_guides_example_costs_what_the_guide_says():
    month = re.search(r"come to \$(\d+) a month", GUIDE)[1]
    (command,) = re.findall(r"`enviromon (cost --.*)`", GUIDE)
    whole, smallest = (
        json.loads(CliRunner().invoke(main, [*command.split(), "--json", "--memory-mb", memory]).stdout)["perMonth"]
        for memory in ("2048", "512")
    )
    assert round(whole) == int(month)
    assert smallest < 1


def test_what_is_said_to_be_verified_is_there():
    for path in re.findall(r"`((?:scripts|tests|infra)/[\w./-]+)`", GUIDE + STEPS):
        assert (DOCS.parent / path).exists(), path
