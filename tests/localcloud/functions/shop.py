"""The sample app in a host of its own, and what the tests say of it."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from localcloud.functions.host import FunctionsHost
from localcloud.functions.invocation import Invocation
from localcloud.iothub.event_log import Envelope, Event, SqliteEventLog
from localcloud.keys import Keys

SAMPLE_APP = Path(__file__).parents[2] / "sample_app"
ORDERS_CONNECTION = "Endpoint=sb://shop.example/;SharedAccessKeyName=owner;SharedAccessKey=c2VjcmV0;EntityPath=orders"
SIGNALR_KEY = "c2lnbmFsci1rZXktb2YtdGhlLXNob3AtZm9yLXRlc3Rz"
ENVELOPE = Envelope({"iothub-connection-device-id": "till-1", "message-id": "m1"}, {"shop": "north"})


class Shop:
    """The host under test with what it reported, and the app's own module."""

    def __init__(self, log: SqliteEventLog, app_dir: Path, environment: dict[str, str], **options: Any) -> None:
        self.keys = Keys()
        self.log = log
        self.invocations: list[Invocation] = []
        self.host = FunctionsHost(
            app_dir,
            event_hub=lambda _namespace, _name: log,
            keys=self.keys,
            settings={
                "OrdersConnection": ORDERS_CONNECTION,
                "AzureSignalRConnectionString": f"Endpoint=http://localhost;Port=8888;AccessKey={SIGNALR_KEY};Version=1.0;",
            },
            environment=environment,
            report=self.invocations.append,
            **options,
        )
        self.app: Any = sys.modules["function_app"]
        self._batches = 0

    async def send(self, *bodies: bytes, partition: int = 0) -> None:
        self._batches += 1
        batch_id = self._batches.to_bytes(16, "big")
        await self.log.append(batch_id, {partition: [Event(ENVELOPE, body) for body in bodies]})

    def of(self, function: str) -> list[Invocation]:
        return [invocation for invocation in self.invocations if invocation.function == function]


MakeShop = Callable[..., Awaitable[Shop]]
