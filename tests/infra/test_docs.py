"""What the docs tell of the deployment is what the deployment does."""

import json
import re
from pathlib import Path

from tests.infra.checks import APP, GRANTS, PARAMETERS, ROLE_IDS, app_settings, parsed
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
    assert len(GRANTS) == 6
    assert granted - {"Key Vault Secrets Officer"} == {role.replace("Signal R", "SignalR") for role in spelled}


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


def test_what_is_said_to_be_verified_is_there():
    for path in re.findall(r"`((?:scripts|tests|infra)/[\w./-]+)`", GUIDE + STEPS):
        assert (DOCS.parent / path).exists(), path
