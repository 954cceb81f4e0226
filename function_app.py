"""What Azure Functions runs: triggers and bindings. All logic is in enviromon.

Written for Azure's indexer: typing.List instead of list, func.Out[str], and no parameter that is not bound.
"""

from typing import List

import azure.functions as func

from enviromon.application import application

HUB = "enviromon"
SIGNALR = "AzureSignalRConnectionString"
READ = func.AuthLevel.ANONYMOUS  # READ_ACCESS decides who reads, in enviromon.api
WRITE = func.AuthLevel.FUNCTION

app = func.FunctionApp()


@app.event_hub_message_trigger(
    arg_name="events",
    event_hub_name="%IoTHubEventHubName%",
    connection="IoTHubConnectionString",
    cardinality=func.Cardinality.MANY,
    consumer_group="enviromon",
    data_type=func.DataType.BINARY,
)
@app.generic_output_binding(arg_name="updates", type="signalR", hubName=HUB, connectionStringSetting=SIGNALR)
@app.retry(
    strategy="exponential_backoff", max_retry_count="-1", minimum_interval="00:00:02", maximum_interval="00:00:30"
)
async def telemetry(events: List[func.EventHubEvent], updates: func.Out[str], context: func.Context) -> None:
    """Take a batch of telemetry in, tell all viewers of it."""
    await application().telemetry(events, context, updates.set)


@app.route("negotiate", methods=["POST"], auth_level=READ)
@app.generic_input_binding(arg_name="info", type="signalRConnectionInfo", hubName=HUB, connectionStringSetting=SIGNALR)
async def negotiate(req: func.HttpRequest, info: str) -> func.HttpResponse:
    """Tell the way to the updates of all devices."""
    return await application().api.negotiate(req, info)


@app.route("viewers/{viewer}/negotiate", methods=["POST"], auth_level=READ)
@app.generic_input_binding(
    arg_name="info", type="signalRConnectionInfo", hubName=HUB, connectionStringSetting=SIGNALR, userId="{viewer}"
)
async def viewer_negotiate(req: func.HttpRequest, info: str) -> func.HttpResponse:
    """Tell a viewer the way to the updates, and to its own snapshots."""
    return await application().api.negotiate(req, info)


@app.route("getdevicestate", methods=["POST"], auth_level=READ)
@app.generic_output_binding(arg_name="snapshot", type="signalR", hubName=HUB, connectionStringSetting=SIGNALR)
async def getdevicestate(req: func.HttpRequest, snapshot: func.Out[str]) -> func.HttpResponse:
    """Send a viewer all devices."""
    return await application().api.get_device_state(req, snapshot.set)


@app.route("devices", methods=["GET"], auth_level=READ)
async def devices(req: func.HttpRequest) -> func.HttpResponse:
    """Tell the devices, paged."""
    return await application().api.devices(req)


@app.route("calibration/{deviceId}", methods=["GET"], auth_level=READ)
async def calibration(req: func.HttpRequest) -> func.HttpResponse:
    """Tell a device's calibration."""
    return await application().api.calibration(req)


@app.route("calibration/{deviceId}", methods=["PUT", "DELETE"], auth_level=WRITE)
async def calibration_write(req: func.HttpRequest) -> func.HttpResponse:
    """Change a device's calibration."""
    return await application().api.write_calibration(req)


@app.route("dead-letters", methods=["GET"], auth_level=WRITE)
async def dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    """Tell the rejected readings, paged."""
    return await application().api.dead_letters(req)


@app.route("ledger", methods=["GET"], auth_level=READ)
async def ledger(req: func.HttpRequest) -> func.HttpResponse:
    """Tell what became of all readings."""
    return await application().api.ledger(req)


@app.route("cost", methods=["GET"], auth_level=READ)
async def cost(req: func.HttpRequest) -> func.HttpResponse:
    """Tell what this costs on Azure."""
    return await application().api.cost(req)


@app.route("metrics-catalogue", methods=["GET"], auth_level=READ)
async def metrics_catalogue(req: func.HttpRequest) -> func.HttpResponse:
    """Tell which metrics there are."""
    return await application().api.metrics_catalogue(req)
