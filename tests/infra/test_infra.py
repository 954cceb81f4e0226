"""The deployment agrees with the app, and the checks that say so can turn red."""

import re
from pathlib import Path

import pytest

from tests.infra.bicep import text_of
from tests.infra.checks import (
    ALL,
    APP,
    HUB,
    MAIN,
    MONITORING,
    PARAMETERS,
    SIGNALR,
    STORAGE,
    VAULT,
    WEBSITE,
    app_settings,
    findings,
    parsed,
)

ROOT = Path(__file__).parents[2]
TEXTS = ("azure.yaml", "function_app.py", "host.json", "pyproject.toml")
FILES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [*(ROOT / name for name in TEXTS), *(ROOT / "infra").rglob("*.*")]
    if path.suffix in (".bicep", ".json", ".py", ".toml", ".yaml")
}


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
def test_the_deployment_agrees(check):
    assert list(check(FILES)) == []


def changed(path, old, new):
    assert old in FILES[path], f"{path} does not hold {old!r}"
    return {**FILES, path: FILES[path].replace(old, new, 1)}


MUTATIONS = [
    (APP, "  name: 'func-${suffix}'", "  name: 'func-${suffix}", "syntax"),
    (APP, "string(minEventBatchSize)", "string(leastEventBatchSize)", "symbols"),
    (APP, "param tableEndpoint string\n", "", "symbols"),
    (MAIN, "'modules/signalr.bicep'", "'modules/signal.bicep'", "modules"),
    (MAIN, "    site: site\n", "", "modules"),
    (MAIN, "storage.outputs.tableEndpoint", "storage.outputs.tables", "modules"),
    (VAULT, "@secure()\n", "", "modules"),
    (MAIN, "param site string\n", "param place string\n", "parameters"),
    (PARAMETERS, "${IOT_HUB_SKU=F1}", "${IOT_HUB_SKU=F2}", "parameters"),
    (PARAMETERS, "${READ_KEY}", "letmein", "parameters"),
    ("azure.yaml", "  postdeploy:", "  postprovision:", "hooks"),
    ("azure.yaml", "python3 infra/hooks/prepare.py", "python3 infra/hooks/prepare.sh", "hooks"),
    (MAIN, "output DASHBOARD_ACCOUNT", "output ACCOUNT", "hooks"),
    (MAIN, "keyVault.outputs.name", "readKey", "hooks"),
    ("azure.yaml", "  api:", "  app:", "service"),
    (APP, "'azd-service-name': 'api'", "'azd-service-name': 'web'", "service"),
    (MAIN, "'azd-env-name': environmentName", "'azd-env-name': location", "service"),
    (SIGNALR, "  tags: tags\n", "", "service"),
    (APP, "version: '3.13'", "version: '3.9'", "runtime"),
    (APP, "tier: 'FlexConsumption'", "tier: 'Dynamic'", "runtime"),
    ("host.json", "[4.*, 5.0.0)", "[3.*, 4.0.0)", "runtime"),
    ("function_app.py", "%IoTHubEventHubName%", "%EventHubName%", "bindings"),
    ("function_app.py", 'connection="IoTHubConnectionString"', 'connection="HubConnection"', "bindings"),
    ("function_app.py", 'SIGNALR = "AzureSignalRConnectionString"', 'SIGNALR = "SignalR"', "bindings"),
    (APP, "'@Microsoft.KeyVault(SecretUri=${eventsConnectionUri})'", "eventsConnectionUri", "bindings"),
    (APP, "ConnectionString__credential: 'managed", "ConnectionString__credential: 'un", "bindings"),
    (APP, "    PartitionKey: site\n", "    PartitionKey: site\n    SIET: 'x'\n", "settings_known"),
    (APP, "Storage__clientId: identityClientId", "Storage__clientId: identityId", "settings_known"),
    (APP, "'azure-tables:AzureWebJobsStorage'", "'azure-tables:Storage'", "store"),
    (APP, "'azure-tables:AzureWebJobsStorage'", "'sqlite:state.db'", "store"),
    (APP, "__tableServiceUri: tableEndpoint", "__tableServiceUri: blobEndpoint", "store"),
    (PARAMETERS, "${MIN_EVENT_BATCH_SIZE=100}", "${MIN_EVENT_BATCH_SIZE=1001}", "batching"),
    (PARAMETERS, "${MAX_WAIT_TIME=00:00:05}", "${MAX_WAIT_TIME=5 s}", "batching"),
    (PARAMETERS, "${MAX_WAIT_TIME=00:00:05}", "${MAX_WAIT_TIME=00:00:06}", "batching"),
    (HUB, "partitionCount: isFree ? 2 : 4", "partitionCount: isFree ? 2 : 8", "batching"),
    ("host.json", '"minEventBatchSize": 1,', '"minEventBatchSize": 50,', "batching"),
    (HUB, "isFree ? [toEvents] : [toEvents, toBlobs]", "isFree ? [toEvents] : [toBlobs]", "routes"),
    (HUB, "isFree ? [toEvents] : [toEvents, toBlobs]", "[toEvents, toBlobs]", "routes"),
    (HUB, "endpointNames: ['events']", "endpointNames: ['raw']", "routes"),
    (HUB, "      fallbackRoute: {", "      fallbackRoutes: {", "routes"),
    (HUB, "properties: { name: 'enviromon' }", "properties: { name: 'environ' }", "routes"),
    ("function_app.py", 'consumer_group="enviromon"', 'consumer_group="$Default"', "routes"),
    (APP, "allowedOrigins: [dashboardOrigin]", "allowedOrigins: ['*']", "browser"),
    (SIGNALR, "allowedOrigins: [dashboardOrigin]", "allowedOrigins: [dashboardOrigin, '*']", "browser"),
    (APP, "supportCredentials: false", "supportCredentials: true", "browser"),
    (STORAGE, "b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "b24988ac-6180-42a0-ab88-20f7382dd24c", "roles"),
    (STORAGE, "  scope: raw\n", "  scope: account\n", "roles"),
    (MONITORING, "  scope: insights\n", "", "roles"),
    (SIGNALR, "    principalType: 'ServicePrincipal'\n", "", "roles"),
    (STORAGE, "storageTableDataContributor, ", "", "roles"),
    (APP, "httpsOnly: true", "httpsOnly: false", "security"),
    (HUB, "minTlsVersion: '1.2'", "minTlsVersion: '1.0'", "security"),
    (WEBSITE, "allowBlobPublicAccess: false", "allowBlobPublicAccess: true", "security"),
    (STORAGE, "    allowSharedKeyAccess: false\n", "", "security"),
    (SIGNALR, "disableLocalAuth: true", "disableLocalAuth: false", "security"),
    (VAULT, "SharedAccessKeyName=service", "SharedAccessKeyName=iothubowner", "security"),
    (VAULT, "    enableSoftDelete: true\n", "    enablePurgeProtection: true\n", "security"),
    (MAIN, "@secure()\n", "", "security"),
    (APP, "requireAuthentication: isEntra", "requireAuthentication: false", "security"),
    (SIGNALR, "value: 'Serverless'", "value: 'Default'", "serverless"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "old", "new", "check"), MUTATIONS, ids=lambda value: str(value)[:40])
def test_a_change_for_the_worse_turns_its_check_red(path, old, new, check):
    assert any(finding.startswith(f"{check}: ") for finding in findings(changed(path, old, new)))


def test_every_check_has_a_change_that_turns_it_red():
    assert {check for *_, check in MUTATIONS} == {check.__name__ for check in ALL}


SETTINGS = app_settings(parsed(FILES[APP]))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_missing_or_misspelt_is_found(name):
    line = f"    {name}: {text_of(SETTINGS[name])}\n"
    assert any(name in finding for finding in findings(changed(APP, line, "")))
    assert any(name in finding for finding in findings(changed(APP, line, line.replace(name, f"{name}s", 1))))


@pytest.mark.parametrize("path", sorted(path for path in FILES if path.startswith("infra/modules")))
def test_a_module_that_is_missing_is_found(path):
    assert findings({name: text for name, text in FILES.items() if name != path})


def test_the_solution_needs_no_dollar_braces_where_bicep_would_not_fill_them():
    for path, text in FILES.items():
        if path.endswith(".bicep"):
            assert not re.search(r"\$\{[A-Z_]+\}", text), path
