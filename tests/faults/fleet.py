"""Devices that number what they send, and know what the hub has acknowledged.

Every BAD-th message is one that must be rejected. A device sends while the tap is open, and after a lost connection
begins with what was not acknowledged, in order.
"""

import asyncio
import json
import logging
import random
import threading
import time
from collections import deque
from pathlib import Path

from azure.iot.device import IoTHubDeviceClient, Message

from enviromon.device_client import DeviceConnection, HubAddress, RefusedError, sas_token

BAD = 17
BURST = 20


def is_bad(number: int) -> bool:
    return number % BAD == 0


def body(device_id: str, number: int) -> bytes:
    temperature = "hot" if is_bad(number) else 15 + number % 200 / 10
    return json.dumps(
        {"messageId": number, "deviceId": device_id, "temperature": temperature, "light": number}
    ).encode()


class Tap:
    """Open while devices shall send; threads and tasks may ask."""

    def __init__(self) -> None:
        self.is_open = False
        self.is_broken = False
        """Everything ends."""


class OwnDevice:
    """The project's own device client, with its window of 20."""

    def __init__(self, device_id: str, key: str, hub: HubAddress, tap: Tap) -> None:
        self.device_id = device_id
        self.sent = self.acknowledged = self.repeated = 0
        self._key, self._hub, self._tap = key, hub, tap
        self._waiting: deque[int] = deque()

    @property
    def is_drained(self) -> bool:
        return not self._waiting

    async def run(self) -> None:
        while not self._tap.is_broken:
            connection = DeviceConnection(self.device_id)
            try:
                token = sas_token(f"{self._hub.hostname}/devices/{self.device_id}", self._key, int(time.time()) + 3600)
                await connection.open(self._hub, token)
            except RefusedError as refusal:
                if not refusal.retry:
                    raise
                await asyncio.sleep(0.2)
            except OSError:
                await asyncio.sleep(random.uniform(0.03, 0.15))
            else:
                await self._session(connection)

    async def _session(self, connection: DeviceConnection) -> None:
        try:
            for number in list(self._waiting):
                self.repeated += 1
                await self._publish(connection, number)
            while not connection.closed.done() and not self._tap.is_broken:
                for _ in range(random.randint(1, BURST) if self._tap.is_open else 0):
                    self.sent += 1
                    self._waiting.append(self.sent)
                    await self._publish(connection, self.sent)
                await asyncio.wait([connection.closed], timeout=random.uniform(0.02, 0.12))
        except OSError:
            pass
        finally:
            connection.close()

    async def _publish(self, connection: DeviceConnection, number: int) -> None:
        def settle(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                assert self._waiting.popleft() == number, "acknowledged in the order sent"
                self.acknowledged = max(self.acknowledged, number)

        (await connection.publish(body(self.device_id, number))).add_done_callback(settle)


class SdkDevice:
    """Microsoft's SDK, unmodified, in a thread of its own: one message at a time."""

    def __init__(self, device_id: str, connection_string: str, ca_file: Path, tap: Tap) -> None:
        logging.getLogger("azure.iot.device").setLevel(logging.CRITICAL)
        self.device_id = device_id
        self.sent = self.acknowledged = self.repeated = 0
        self._tap = tap
        self._client = IoTHubDeviceClient.create_from_connection_string(
            connection_string, server_verification_cert=ca_file.read_text(), connection_retry_interval=1, keep_alive=10
        )
        self._thread = threading.Thread(target=self._work, name=device_id, daemon=True)

    @property
    def is_drained(self) -> bool:
        return self.acknowledged == self.sent

    async def run(self) -> None:
        self._thread.start()
        while not self._tap.is_broken:  # noqa: ASYNC110 - the thread asks the same
            await asyncio.sleep(0.1)
        await asyncio.to_thread(self._client.shutdown)
        await asyncio.to_thread(self._thread.join, 10)

    def _work(self) -> None:
        while not self._tap.is_broken:
            if not self._tap.is_open:
                time.sleep(0.02)
                continue
            self.sent += 1
            while not self._tap.is_broken:
                try:
                    self._client.send_message(Message(body(self.device_id, self.sent)))
                    self.acknowledged = self.sent
                    break
                except Exception:  # noqa: BLE001 - the SDK has a dozen kinds for a lost connection
                    self.repeated += 1
                    time.sleep(0.1)
