"""What must agree across function_app.py, host.json, pyproject.toml, azure.yaml and infra/.

Every check takes the project's texts by path and yields a sentence per finding, so that a test can change a text and
see the check turn red. `ALL` holds them.
"""

import json
import re
import tempfile
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import azure.functions as func
import msgspec
import yaml

from enviromon.cost import FREE_PARTITIONS, PARTITIONS
from enviromon.errors import SettingsError
from enviromon.host_settings import DEPLOYED, OVERRIDE
from enviromon.settings import Settings
from enviromon.stores.azure_tables.connection import read_connection
from localcloud.functions.configuration import EventHubsOptions, read_host_json, time_span
from tests.infra.bicep import Bicep, Node, properties_of, string_of, text_of

Files = Mapping[str, str]
Findings = Iterator[str]

MAIN = "infra/main.bicep"
APP = "infra/modules/function_app.bicep"
HUB = "infra/modules/iot_hub.bicep"
VAULT = "infra/modules/key_vault.bicep"
SIGNALR = "infra/modules/signalr.bicep"
STORAGE = "infra/modules/storage.bicep"
WEBSITE = "infra/modules/website.bicep"
MONITORING = "infra/modules/monitoring.bicep"
PARAMETERS = "infra/main.parameters.json"

HOST_JSON = "AzureFunctionsJobHost__"
"""What a setting that overrides anything of host.json begins with."""

PLATFORM_SETTINGS = {
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "insightsConnectionString",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "'ClientId=${identityClientId};Authorization=AAD'",
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY": "string(instruments == 'opentelemetry')",
    "AzureWebJobsStorage__credential": "'managedidentity'",
    "AzureWebJobsStorage__clientId": "identityClientId",
    "AzureWebJobsStorage__blobServiceUri": "blobEndpoint",
    "AzureWebJobsStorage__queueServiceUri": "queueEndpoint",
    "AzureWebJobsStorage__tableServiceUri": "tableEndpoint",
}
"""What the Functions host and the SDKs read, and what it must say."""

IDENTITY_FORM = {"signalR": "serviceUri", "signalRConnectionInfo": "serviceUri"}
"""The binding types that need no secret, and the part of their setting that names the service."""

SOLUTION_SETTINGS = {"STORE_URL", "PartitionKey", "READ_ACCESS", "READ_KEY", "INSTRUMENTS", "INSTANCE_MEMORY_MB"}
"""The settings of enviromon that a deployment cannot leave at their defaults."""

LONGEST_WAIT_SECONDS = 600
OVERRIDDEN = set(DEPLOYED)

ROLE_IDS = {
    "storageBlobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "storageBlobDataContributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "storageQueueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "storageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "signalRServiceOwner": "7e4f1700-ea5a-4f59-8f37-079cfe29dce3",
    "monitoringMetricsPublisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "keyVaultSecretsUser": "4633458b-17de-408a-b874-0445c86b69e6",
}
"""https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"""

GRANTS = {
    (STORAGE, "account", "appPrincipalId", "appRoles"),
    (STORAGE, "raw", "hubPrincipalId", "storageBlobDataContributor"),
    (WEBSITE, "account", "deployerId", "storageBlobDataContributor"),
    (MONITORING, "insights", "publisherId", "monitoringMetricsPublisher"),
    (VAULT, "vault", "readerId", "keyVaultSecretsUser"),
    (SIGNALR, "service", "ownerId", "signalRServiceOwner"),
}
"""All that anybody is granted: (module, scope, who, what). More is a finding, and so is less."""

APP_ROLES = {"storageBlobDataOwner", "storageTableDataContributor", "storageQueueDataContributor"}


@lru_cache(maxsize=256)
def parsed(text: str) -> Bicep:
    """The tree of a file's text."""
    return Bicep(text)


def bicep_files(files: Files) -> dict[str, Bicep]:
    """The parsed Bicep files by path."""
    return {path: parsed(text) for path, text in files.items() if path.endswith(".bicep")}


def syntax(files: Files) -> Findings:
    """Every file is Bicep."""
    for path, bicep in bicep_files(files).items():
        for error in bicep.syntax_errors:
            yield f"{path}: {error}"


def symbols(files: Files) -> Findings:
    """Every symbol that is used is declared, and every parameter and variable is used."""
    for path, bicep in bicep_files(files).items():
        for name in sorted(bicep.undeclared()):
            yield f"{path}: {name} is not declared"
        for name in sorted(bicep.unused()):
            yield f"{path}: {name} is not used"


def modules(files: Files) -> Findings:
    """Every module's file exists, takes the arguments it is given, gets those it needs, and has the outputs asked."""
    all_files = bicep_files(files)
    used = {MAIN}
    for path, bicep in all_files.items():
        for symbol, module in bicep.modules.items():
            target = f"{path.rpartition('/')[0]}/{module.path}"
            used.add(target)
            if target not in all_files:
                yield f"{path}: module {symbol}: there is no {target}"
                continue
            callee = all_files[target]
            for name in sorted(module.arguments.keys() - callee.parameters.keys()):
                yield f"{path}: module {symbol} is given {name}, which {target} does not take"
            for name in sorted(callee.parameters.keys() - callee.defaults - module.arguments.keys()):
                yield f"{path}: module {symbol} lacks {name}, which {target} needs"
            for output in sorted(set(re.findall(rf"\b{symbol}\.outputs\.(\w+)", bicep.text)) - callee.outputs.keys()):
                yield f"{path}: {target} has no output {output}"
            for name, value in module.arguments.items():
                secret = text_of(value) in bicep.secure
                if secret and name not in callee.secure:
                    yield f"{target}: {name} holds a secret and must be @secure()"
    for path in sorted(all_files.keys() - used):
        yield f"{path}: no module uses it"


def parameters(files: Files) -> Findings:
    """main.parameters.json and main.bicep know the same parameters, and defaults are among those allowed."""
    given = json.loads(files[PARAMETERS])["parameters"]
    main = parsed(files[MAIN])
    for name in sorted(main.parameters.keys() ^ given.keys()):
        yield f"{PARAMETERS} and {MAIN} do not agree on {name}"
    for name, value in given.items():
        if not re.fullmatch(r"\$\{[A-Z_]+(=[^}]*)?\}", value["value"]):
            yield f"{PARAMETERS}: {name} must come from the azd environment, not stand here"
        default = default_of(files, name)
        allowed = re.search(rf"@allowed\(\[([^\]]*)\]\)\s*(?:@\w+\([^)]*\)\s*)*param {name} ", files[MAIN])
        if default and allowed and default not in re.findall(r"[\w.]+", allowed[1]):
            yield f"{PARAMETERS}: {name}'s default {default!r} is none of {allowed[1]}"


def default_of(files: Files, parameter: str) -> str:
    """The default that main.parameters.json gives a parameter; "" where it gives none."""
    given = json.loads(files[PARAMETERS])["parameters"].get(parameter, {"value": ""})
    return given["value"].partition("=")[2].rstrip("}")


def hooks(files: Files) -> Findings:
    """azure.yaml's hooks run files that exist, on every system the same, and read outputs that there are."""
    azure = yaml.safe_load(files["azure.yaml"])
    if set(azure.get("hooks", {})) != {"preprovision", "postdeploy"}:
        yield "azure.yaml: the hooks are preprovision and postdeploy"
    for name, hook in azure.get("hooks", {}).items():
        scripts = {hook[system]["run"].split()[-1] for system in ("posix", "windows")}
        if len(scripts) != 1 or not scripts <= files.keys():
            yield f"azure.yaml: the hook {name} runs {sorted(scripts)}, which must be one file that exists"
    outputs = parsed(files[MAIN]).outputs.keys()
    publish = files["infra/hooks/publish_dashboard.py"]
    for name in sorted(set(re.findall(r"environment\[\"(\w+)\"\]", publish)) - outputs - set(azd_values(files))):
        yield f"infra/hooks/publish_dashboard.py reads {name}, which {MAIN} does not output"
    for name, value in parsed(files[MAIN]).outputs.items():
        if re.search(r"key|connection", text_of(value), re.IGNORECASE) and "keyVault.outputs.name" not in text_of(
            value
        ):
            yield f"{MAIN}: the output {name} may be a secret, and outputs are kept in the clear"


def azd_values(files: Files) -> Iterable[str]:
    """The values of the azd environment that main.parameters.json reads."""
    return re.findall(r"\$\{([A-Z_]+)", files[PARAMETERS])


def service(files: Files) -> Findings:
    """The one service of azure.yaml is a Python function app at the root, and its tag finds the app in Azure."""
    azure = yaml.safe_load(files["azure.yaml"])
    project = tomllib.loads(files["pyproject.toml"])["project"]
    if azure["name"] != project["name"]:
        yield f"azure.yaml: the name is {azure['name']}, pyproject.toml's {project['name']}"
    if (azure["infra"]["path"], azure["infra"]["module"]) != ("infra", "main"):
        yield "azure.yaml: infra must name infra/main.bicep"
    services = azure["services"]
    for name, about in services.items():
        if (about["project"], about["language"], about["host"]) != (".", "python", "function"):
            yield f"azure.yaml: {name} must be a Python function app at the root"
    tags = re.findall(r"'azd-service-name': '(\w+)'", files[APP])
    if tags != list(services):
        yield f"{APP}: the tag azd-service-name says {tags}, azure.yaml {list(services)}"
    if "'azd-env-name': environmentName" not in text_of(parsed(files[MAIN]).variables["tags"]):
        yield f"{MAIN}: the tag azd-env-name must carry the environment's name: azd finds its resources by it"
    for path, bicep in bicep_files(files).items():
        for symbol, resource in bicep.resources.items():
            taggable = resource.type.count("/") == 1 and not resource.type.startswith("Microsoft.Authorization")
            tags_node = properties_of(resource.body).get("tags")
            if taggable and not resource.existing and (tags_node is None or "tags" not in text_of(tags_node)):
                yield f"{path}: {symbol} has no tags"


def runtime(files: Files) -> Findings:
    """Python's version is one that the project supports, and host.json is the one for Flex Consumption."""
    bicep = parsed(files[APP])
    version = _string(bicep, "app", "properties.functionAppConfig.runtime.version")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    if f"Programming Language :: Python :: {version}" not in project["classifiers"]:
        yield f"{APP}: Python {version} is not among those of pyproject.toml"
    if _string(bicep, "app", "properties.functionAppConfig.runtime.name") != "python":
        yield f"{APP}: the runtime must be python"
    if (_string(bicep, "plan", "sku.name"), _string(bicep, "plan", "sku.tier")) != ("FC1", "FlexConsumption"):
        yield f"{APP}: the plan must be Flex Consumption"
    bundle = json.loads(files["host.json"])["extensionBundle"]
    if bundle != {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"}:
        yield "host.json: the extension bundle must be [4.*, 5.0.0), which Flex Consumption asks for"


def app_settings(bicep: Bicep) -> dict[str, Node]:
    """The function app's settings."""
    node = bicep.value("settings", "properties")
    return properties_of(node) if node is not None else {}


@lru_cache(maxsize=16)
def function_bindings(text: str) -> list[Any]:
    """All bindings of the app whose source this is, as azure.functions indexes it."""
    module = types.ModuleType("function_app_under_check")
    exec(compile(text, "function_app.py", "exec"), vars(module))
    (app,) = (value for value in vars(module).values() if isinstance(value, func.FunctionApp))
    return [binding for function in app.get_functions() for binding in function.get_bindings()]


def bindings(files: Files) -> Findings:
    """Every connection and %SETTING% of function_app.py is set, in the form that the binding takes on Azure."""
    settings = app_settings(parsed(files[APP]))
    for binding in function_bindings(files["function_app.py"]):
        options = binding.get_dict_repr()
        for text in filter(lambda value: isinstance(value, str), options.values()):
            for name in set(re.findall(r"%(\w+)%", text)) - settings.keys():
                yield f"{APP}: the setting {name} is missing, which {binding.name} of function_app.py reads"
        connection = connection_of(options)
        if connection:
            yield from _connection(binding.type, connection, settings)


def connection_of(options: Mapping[str, Any]) -> str:
    """The name of the setting that a binding connects by; "" where it connects to nothing."""
    return str(options.get("connectionStringSetting") or options.get("connection") or "")


def _connection(kind: str, name: str, settings: Mapping[str, Node]) -> Findings:
    if kind not in IDENTITY_FORM:
        value = settings.get(name)
        if value is None:
            yield f"{APP}: the setting {name} is missing, which a {kind} connects by"
        elif not text_of(value).startswith("'@Microsoft.KeyVault(SecretUri="):
            yield f"{APP}: {name} holds a key and must be a Key Vault reference"
        return
    if name in settings:
        yield f"{APP}: {name} must not be a connection string, it goes by identity"
    wanted = {"credential": "'managedidentity'", "clientId": "identityClientId", IDENTITY_FORM[kind]: None}
    for part, value in wanted.items():
        given = settings.get(f"{name}__{part}")
        if given is None:
            yield f"{APP}: the setting {name}__{part} is missing, which a {kind} connects by"
        elif value is not None and text_of(given) != value:
            yield f"{APP}: {name}__{part} must be {value}"


def settings_known(files: Files) -> Findings:
    """Every setting is one that something reads, and those that must be there are."""
    settings = app_settings(parsed(files[APP]))
    own = {info.encode_name for info in msgspec.structs.fields(Settings)}
    bound = {
        name
        for binding in function_bindings(files["function_app.py"])
        for text in binding.get_dict_repr().values()
        if isinstance(text, str)
        for name in [*re.findall(r"%(\w+)%", text), connection_of(binding.get_dict_repr())]
    }
    for name in settings:
        known = name in own | PLATFORM_SETTINGS.keys() or name.partition("__")[0] in bound
        if not known and not name.startswith(HOST_JSON):
            yield f"{APP}: nothing reads the setting {name}"
    for name in sorted((SOLUTION_SETTINGS | PLATFORM_SETTINGS.keys()) - settings.keys()):
        yield f"{APP}: the setting {name} is missing"
    for name, value in PLATFORM_SETTINGS.items():
        if name in settings and text_of(settings[name]) != value:
            yield f"{APP}: {name} must be {value}"
    if "READ_KEY" in settings and "@Microsoft.KeyVault(" not in text_of(settings["READ_KEY"]):
        yield f"{APP}: READ_KEY holds a key and must be a Key Vault reference"


def store(files: Files) -> Findings:
    """STORE_URL names a connection that the settings give, as the adapter itself reads it, to this account's tables."""
    settings = app_settings(parsed(files[APP]))
    url = string_of(settings["STORE_URL"]) or ""
    kind, _, connection = url.partition(":")
    if kind != "azure-tables":
        yield f"{APP}: STORE_URL must be azure-tables:CONNECTION: a function app keeps no files"
        return
    values = {"tableEndpoint": "https://st.table.core.windows.net/", "identityClientId": "the-client"}
    environment = {name: values.get(text_of(node), string_of(node) or "") for name, node in settings.items()}
    try:
        found = read_connection(connection, environment)
    except SettingsError as error:
        yield f"{APP}: {error}"
        return
    if (found.endpoint, found.client_id) != tuple(values.values()) or not found.is_managed_identity:
        yield f"{APP}: STORE_URL's connection must reach tableEndpoint as the app's own identity"


def batching(files: Files) -> Findings:
    """The overrides of host.json name options that the host has, and `enviromon cost` knows how batches are made."""
    names = [name for name in app_settings(parsed(files[APP])) if name.startswith(HOST_JSON)]
    wanted = {f"{OVERRIDE}{option}" for option in OVERRIDDEN}
    for name in sorted(wanted ^ set(names)):
        yield f"{APP}: {name} must be there, and nothing else of host.json be overridden"
    options = {info.encode_name for info in msgspec.structs.fields(EventHubsOptions)}
    for name in sorted(OVERRIDDEN - options):
        yield f"{APP}: host.json has no option {name}"
    defaults = {name: default_of(files, name.rpartition("__")[2]) for name in names}
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "host.json").write_text(files["host.json"])
        plain = read_host_json(Path(directory), {}).extensions.event_hubs
        overridden = read_host_json(Path(directory), defaults).extensions.event_hubs
    if (time_span(overridden.max_wait_time) or 0) > LONGEST_WAIT_SECONDS:
        yield f"{PARAMETERS}: maxWaitTime may be 10 minutes at most"
    if (told := {name.rpartition("__")[2]: default for name, default in defaults.items()}) != DEPLOYED:
        yield f"{PARAMETERS}: batches are {told} unless chosen, but `enviromon cost` takes {DEPLOYED}"
    partitions = parsed(files[HUB]).value("hub", "properties.eventHubEndpoints.events.partitionCount")
    if partitions is None or text_of(partitions) != f"isFree ? {FREE_PARTITIONS} : {PARTITIONS}":
        yield f"{HUB}: `enviromon cost` takes {FREE_PARTITIONS} partitions of the free hub and {PARTITIONS} of others"
    if plain.min_event_batch_size != 1:
        yield "host.json: batching for cost belongs into the deployment, not into what runs everywhere"


def routes(files: Files) -> Findings:
    """Telemetry reaches the built-in endpoint by a route of its own, whatever other route a message matches too."""
    bicep = parsed(files[HUB])
    group = function_bindings(files["function_app.py"])
    groups = {binding.get_dict_repr().get("consumerGroup") for binding in group} - {None}
    made = {
        _string(bicep, symbol, "properties.name")
        for symbol in bicep.of_type("Microsoft.Devices/IotHubs/eventHubEndpoints/ConsumerGroups")
    }
    if groups != made:
        yield f"{HUB}: makes the consumer groups {made}, function_app.py reads {groups}"
    value = bicep.value("hub", "properties.routing.routes")
    used = set(re.findall(r"\bto\w+", text_of(value))) if value is not None else set()
    branches = re.findall(r"\[([^\]]*)\]", text_of(value)) if value is not None else []
    if not branches or any("toEvents" not in branch for branch in branches):
        yield f"{HUB}: every list of routes must hold toEvents: a message that another route takes starves the trigger"
    for name in used - bicep.variables.keys():
        yield f"{HUB}: the route {name} does not exist"
    telemetry = properties_of(bicep.variables["toEvents"]) if "toEvents" in bicep.variables else {}
    fallback = bicep.value("hub", "properties.routing.fallbackRoute")
    for what, route in (("toEvents", telemetry), ("the fallback", properties_of(fallback) if fallback else {})):
        said = {name: text_of(node) for name, node in route.items() if name != "name"}
        if said != {
            "source": "'DeviceMessages'",
            "condition": "'true'",
            "endpointNames": "['events']",
            "isEnabled": "true",
        }:
            yield f"{HUB}: {what} must send all messages of devices to the endpoint events"
    endpoints = text_of(bicep.value("hub", "properties.routing.endpoints") or bicep.root)
    names = {"events", *re.findall(r"name: '(\w+)'", endpoints)}
    for name in re.findall(r"endpointNames: \['(\w+)'\]", bicep.text):
        if name not in names:
            yield f"{HUB}: a route goes to {name}, which is no endpoint"
    if "isFree ? []" not in endpoints or "isFree ? [toEvents]" not in text_of(value or bicep.root):
        yield f"{HUB}: the free tier takes no endpoint but the built-in one"


def browser(files: Files) -> Findings:
    """Only the dashboard's origin may call the API and the SignalR service."""
    for path, symbol, where in (
        (APP, "app", "properties.siteConfig.cors.allowedOrigins"),
        (SIGNALR, "service", "properties.cors.allowedOrigins"),
    ):
        value = parsed(files[path]).value(symbol, where)
        if value is None or text_of(value) != "[dashboardOrigin]":
            yield f"{path}: CORS must allow the dashboard's origin and no other"
    for argument in ("signalR", "functionApp"):
        given = parsed(files[MAIN]).modules[argument].arguments.get("dashboardOrigin")
        if given is None or text_of(given) != "website.outputs.origin":
            yield f"{MAIN}: {argument} must be told the website's origin"
    credentials = parsed(files[APP]).value("app", "properties.siteConfig.cors.supportCredentials")
    if credentials is None or text_of(credentials) != "false":
        yield f"{APP}: no cookie opens the API, so CORS must not support credentials"


def roles(files: Files) -> Findings:
    """Nobody is granted more than listed, nobody less, and every id is the role that its name says."""
    granted = set()
    for path, bicep in bicep_files(files).items():
        for name, value in bicep.variables.items():
            if name in ROLE_IDS and string_of(value) != ROLE_IDS[name]:
                yield f"{path}: {name} is {text_of(value)}, the role's id is {ROLE_IDS[name]}"
        for symbol in bicep.of_type("Microsoft.Authorization/roleAssignments"):
            text = text_of(bicep.value(symbol, "properties.roleDefinitionId") or bicep.root)
            role = text.rpartition(", ")[2].rstrip(")")
            given = (bicep.value(symbol, "scope"), bicep.value(symbol, "properties.principalId"))
            scope, who = (text_of(node) if node is not None else "" for node in given)
            granted.add((path, scope, who, "appRoles" if role == "role" else role))
            kind = _string(bicep, symbol, "properties.principalType")
            if who != "deployerId" and kind != "ServicePrincipal":
                yield f"{path}: {symbol} needs principalType 'ServicePrincipal': a new identity is not known everywhere"
    for grant in sorted(granted ^ GRANTS):
        yield f"{grant[0]}: {grant[2]} and {grant[3]} on {grant[1] or 'the whole group'}: granted and listed must agree"
    listed = set(re.findall(r"\w+", text_of(parsed(files[STORAGE]).variables["appRoles"])))
    if listed != APP_ROLES:
        yield f"{STORAGE}: the app's roles are {sorted(listed)}, they must be {sorted(APP_ROLES)}"


SECURE = (
    (APP, "app", "properties.httpsOnly", "true"),
    (APP, "app", "properties.siteConfig.minTlsVersion", "'1.2'"),
    (APP, "app", "properties.keyVaultReferenceIdentity", "identityId"),
    (APP, "app", "identity.type", "'UserAssigned'"),
    (
        APP,
        "app",
        "properties.functionAppConfig.deployment.storage.authentication.type",
        "'UserAssignedIdentity'",
    ),
    (APP, "noFtpPassword", "properties.allow", "false"),
    (APP, "noDeploymentPassword", "properties.allow", "false"),
    (APP, "signIn", "properties.globalValidation.requireAuthentication", "isEntra"),
    (APP, "signIn", "properties.globalValidation.unauthenticatedClientAction", "'Return401'"),
    (APP, "signIn", "properties.platform.enabled", "isEntra"),
    (HUB, "hub", "properties.minTlsVersion", "'1.2'"),
    (MONITORING, "insights", "properties.DisableLocalAuth", "true"),
    (SIGNALR, "service", "properties.disableLocalAuth", "true"),
    (STORAGE, "account", "properties.allowBlobPublicAccess", "false"),
    (STORAGE, "account", "properties.allowSharedKeyAccess", "false"),
    (STORAGE, "account", "properties.minimumTlsVersion", "'TLS1_2'"),
    (STORAGE, "account", "properties.supportsHttpsTrafficOnly", "true"),
    (WEBSITE, "account", "properties.allowBlobPublicAccess", "false"),
    (WEBSITE, "account", "properties.allowSharedKeyAccess", "false"),
    (WEBSITE, "account", "properties.minimumTlsVersion", "'TLS1_2'"),
    (WEBSITE, "account", "properties.supportsHttpsTrafficOnly", "true"),
    (VAULT, "vault", "properties.enableRbacAuthorization", "true"),
)
"""Doors that must be shut: (file, resource, property, what it must say)."""


def security(files: Files) -> Findings:
    """HTTPS alone, TLS 1.2, no public blob, no key where an identity will do, and keys only where they must be."""
    for path, symbol, where, wanted in SECURE:
        bicep = parsed(files[path])
        value = bicep.value(symbol, where) if symbol in bicep.resources else None
        if value is None or text_of(value) != wanted:
            yield f"{path}: {symbol}.{where} must be {wanted}"
    for path, bicep in bicep_files(files).items():
        if path != VAULT and re.search(r"\blist\w*keys\b", bicep.text, re.IGNORECASE):
            yield f"{path}: keys are read in {VAULT} and nowhere else"
        if re.search(r"publicAccess: '(?!None)", bicep.text):
            yield f"{path}: no container may be public"
    policies = set(re.findall(r"keyName == '(\w+)'|SharedAccessKeyName=(\w+)", files[VAULT]))
    if {name for pair in policies for name in pair if name} != {"service"}:
        yield f"{VAULT}: the policy `service` alone may be used: it can read events and not the registry"
    if "enablePurgeProtection" in files[VAULT]:
        yield f"{VAULT}: with purge protection `azd down --purge` leaves the vault behind"
    if not {"readKey"} <= parsed(files[MAIN]).secure:
        yield f"{MAIN}: readKey must be @secure()"


def serverless(files: Files) -> Findings:
    """SignalR Service is in serverless mode: else it refuses clients for want of a server."""
    features = parsed(files[SIGNALR]).value("service", "properties.features")
    if features is None or "{ flag: 'ServiceMode', value: 'Serverless' }" not in text_of(features):
        yield f"{SIGNALR}: ServiceMode must be Serverless"


def _string(bicep: Bicep, symbol: str, path: str) -> str | None:
    node = bicep.value(symbol, path) if symbol in bicep.resources else None
    return string_of(node) if node is not None else None


ALL: tuple[Callable[[Files], Findings], ...] = (
    syntax,
    symbols,
    modules,
    parameters,
    hooks,
    service,
    runtime,
    bindings,
    settings_known,
    store,
    batching,
    routes,
    browser,
    roles,
    security,
    serverless,
)


def findings(files: Files) -> list[str]:
    """What all checks find, each with the name of its check."""
    found = []
    for check in ALL:
        try:
            found += [f"{check.__name__}: {finding}" for finding in check(files)]
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            found.append(f"{check.__name__}: {error!r}")
    return found
