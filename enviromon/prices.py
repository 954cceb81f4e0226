"""The prices that `cost` reckons with, read from prices.toml."""

import datetime as dt
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from enviromon.errors import SettingsError

PRICES_FILE: Final = Path(__file__).with_name("prices.toml")

Amount = Annotated[float, Meta(ge=0)]
Quantity = Annotated[int, Meta(gt=0)]


class HubTier(Struct, frozen=True):
    """A tier of IoT Hub; quotas are per unit but `sends_per_second`, which every hub has, and `devices`."""

    name: str
    per_unit_month: Amount
    messages_per_day: Quantity
    meter_bytes: Quantity
    sends_per_second: Quantity
    sends_per_second_unit: Quantity
    units: Quantity
    devices: Quantity


class HubPrices(Struct, frozen=True):
    """IoT Hub; the free tier comes first."""

    tiers: Annotated[list[HubTier], Meta(min_length=1)]


class FunctionsPrices(Struct, frozen=True):
    """Functions in the Flex Consumption plan."""

    per_million_executions: Amount
    free_executions: int
    per_gb_second: Amount
    free_gb_seconds: int
    least_seconds: Amount
    step_seconds: Annotated[float, Meta(gt=0)]


class TablePrices(Struct, frozen=True):
    """Table storage."""

    per_10000_transactions: Amount


class CheckpointPrices(Struct, frozen=True):
    """The blobs that the trigger writes its checkpoints to."""

    per_10000_operations: Amount


class SignalRPrices(Struct, frozen=True):
    """SignalR Service."""

    meter_bytes: Quantity
    free_connections: int
    free_messages_per_day: int
    per_unit_month: Amount
    connections: Quantity
    messages_per_day: Quantity
    sends_per_second: Quantity
    per_million_messages: Amount
    units: Quantity


class Prices(Struct, frozen=True):
    """Everything in prices.toml but the notes on where it is from, which are for people."""

    compiled: dt.date
    currency: str
    region: str
    iot_hub: HubPrices
    functions: FunctionsPrices
    tables: TablePrices
    checkpoints: CheckpointPrices
    signalr: SignalRPrices


@cache
def load_prices(path: Path = PRICES_FILE) -> Prices:
    """Read a file of prices. Raises SettingsError where it cannot be read or is not of that form."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Prices)
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError(f"{path} cannot be used as prices: {error}") from None
