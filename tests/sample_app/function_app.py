"""A shop's orders: an app for the tests of the local Functions host, which has nothing to do with enviromon."""

import json
import time
from typing import List

import azure.functions as func
from stock import stock

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
app.register_functions(stock)

seen: list[dict[str, object]] = []
ticks: list[func.TimerRequest] = []


@app.event_hub_message_trigger(
    arg_name="events",
    connection="OrdersConnection",
    event_hub_name="%ORDERS_HUB%",
    consumer_group="billing",
    cardinality=func.Cardinality.MANY,
    data_type=func.DataType.BINARY,
)
@app.retry(strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:00")
@app.generic_output_binding(arg_name="news", type="signalR", hubName="Orders")
async def bill(events: List[func.EventHubEvent], news: func.Out[str], context: func.Context) -> None:
    retry = context.retry_context.retry_count
    seen.extend(
        {
            "body": event.get_body().decode(),
            "sequence": event.sequence_number,
            "device": event.iothub_metadata["connection-device-id"],
            "retry": retry,
        }
        for event in events
    )
    if any(b"poison" in event.get_body() for event in events):
        raise ValueError("a poisoned order")
    if any(b"flaky" in event.get_body() for event in events) and retry == 0:
        raise ConnectionError("the till is away")
    if any(b"announce" in event.get_body() for event in events):
        news.set(json.dumps({"target": "billed", "arguments": [len(events)]}))


@app.event_hub_message_trigger(
    arg_name="event", connection="OrdersConnection", event_hub_name="%ORDERS_HUB%", consumer_group="audit"
)
def audit(event: func.EventHubEvent) -> None:
    seen.append({"audit": event.get_body().decode(), "offset": event.offset})


@app.route(route="orders/{id:int}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def order(req: func.HttpRequest) -> func.HttpResponse:
    body = {"id": req.route_params["id"], "query": dict(req.params), "agent": req.headers.get("user-agent")}
    return func.HttpResponse(json.dumps(body), mimetype="application/json", headers={"x-shop": "orders"})


@app.route(route="orders", methods=["POST"])
def create_order(req: func.HttpRequest, context: func.Context) -> str:
    return f"{context.function_name} {req.get_json()['name']}"


@app.route(route="admin-only", auth_level=func.AuthLevel.ADMIN)
async def admin_only(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=204)


@app.route(route="files/{*rest}", auth_level=func.AuthLevel.ANONYMOUS)
async def files(req: func.HttpRequest) -> str:
    return req.route_params.get("rest", "everything")


@app.route(route="broken", auth_level=func.AuthLevel.ANONYMOUS)
async def broken(req: func.HttpRequest) -> str:
    raise RuntimeError("a secret of the shop")


@app.route(route="shoppers/{shopper}/negotiate", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@app.generic_input_binding(arg_name="connection", type="signalRConnectionInfo", hubName="Orders", userId="{shopper}")
async def negotiate(req: func.HttpRequest, connection: str) -> func.HttpResponse:
    return func.HttpResponse(connection, mimetype="application/json")


@app.route(route="negotiate-by-header", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@app.generic_input_binding(
    arg_name="connection", type="signalRConnectionInfo", hubName="Orders", userId="{headers.x-shopper}"
)
def negotiate_by_header(req: func.HttpRequest, connection: str) -> str:
    return connection


@app.timer_trigger(arg_name="timer", schedule="%CLOSING_TIME%", run_on_startup=True)
def close_till(timer: func.TimerRequest) -> None:
    ticks.append(timer)


@app.route(route="slow", auth_level=func.AuthLevel.ANONYMOUS)
def slow(req: func.HttpRequest) -> str:
    time.sleep(0.05)
    return "slept in a thread"


@app.queue_trigger(arg_name="message", queue_name="returns", connection="AzureWebJobsStorage")
def returns(message: func.QueueMessage) -> None:
    raise AssertionError("this host has no queues")
