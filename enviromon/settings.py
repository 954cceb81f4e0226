"""Settings: one typed table. Each is an app setting on Azure and an environment variable everywhere else."""

import os
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from enviromon.errors import SettingsError


class Settings(Struct, frozen=True, kw_only=True):
    """What an operator may choose; the field's name in the environment, its default and its help stand together."""

    store_url: Annotated[
        str,
        Meta(
            description="Where state is kept: `sqlite:///absolute/path/state.db`, `sqlite:relative/path/state.db`, or "
            "`azure-tables:CONNECTION`, an account's tables (see below)."
        ),
    ] = field(name="STORE_URL", default="sqlite:.enviromon/state.db")
    site: Annotated[
        str,
        Meta(
            description="The site, e.g. a town: its devices are kept apart from other sites' in the same store.",
            pattern=r"^[^/\\#?\x00-\x1f\x7f]{1,128}$",
        ),
    ] = field(name="PartitionKey", default="enviromon")
    state_buckets: Annotated[
        int,
        Meta(
            description="In Azure Tables: over how many partitions the states of the site are spread. One takes about "
            "2,000 devices' changes a second. It is fixed with the site's first device.",
            ge=1,
            le=100,
        ),
    ] = field(name="STATE_BUCKETS", default=1)
    read_access: Annotated[
        Literal["open", "key"],
        Meta(description="Who may read: `key` (who sends READ_KEY in the header `x-enviromon-key`) or `open` (all)."),
    ] = field(name="READ_ACCESS", default="key")
    read_key: Annotated[
        str, Meta(description="The key that readers send; while it is empty and READ_ACCESS is `key`, nobody may read.")
    ] = field(name="READ_KEY", default="")
    trust_gateways: Annotated[
        str,
        Meta(
            description="Device ids, separated by commas, that may speak for the deviceId in their bodies; `*` trusts "
            "every sender (for Event Hubs that IoT Hub does not feed)."
        ),
    ] = field(name="TRUST_GATEWAYS", default="")
    timestamp_lead_seconds: Annotated[
        int, Meta(description="How far a device's own time may run ahead of the hub's.", ge=0, le=86_400)
    ] = field(name="TIMESTAMP_LEAD_SECONDS", default=300)
    calibration_ttl_seconds: Annotated[
        float, Meta(description="How long a calibration is believed before it is read again.", ge=0, le=86_400)
    ] = field(name="CALIBRATION_TTL_SECONDS", default=10.0)
    cached_devices: Annotated[
        int, Meta(description="How many devices' states and calibrations a worker keeps in memory.", ge=0)
    ] = field(name="CACHED_DEVICES", default=20_000)
    instruments: Annotated[
        Literal["none", "prometheus", "opentelemetry"],
        Meta(
            description="Where figures and traces of the running solution go: `prometheus` (the local host's "
            "/metrics), `opentelemetry` (Application Insights on Azure, or OTLP) or `none`."
        ),
    ] = field(name="INSTRUMENTS", default="none")
    instance_memory_mb: Annotated[
        int, Meta(description="The memory of a Flex Consumption instance, for the estimate of what this costs.", ge=512)
    ] = field(name="INSTANCE_MEMORY_MB", default=2048)
    store_faults: Annotated[
        str,
        Meta(description="Lets stores fail on purpose, to see what happens (docs/fault-injection.md). Never on Azure."),
    ] = field(name="STORE_FAULTS", default="")
    store_faults_seed: Annotated[int, Meta(description="The seed of their chances.")] = field(
        name="STORE_FAULTS_SEED", default=0
    )
    store_faults_unlock: Annotated[
        str, Meta(description="`this store fails on purpose`; without it STORE_FAULTS is refused.")
    ] = field(name="STORE_FAULTS_UNLOCK", default="")
    occ_base_ms: Annotated[int, Meta(description="The shortest wait after a lost compare-and-set.", ge=0)] = field(
        name="OCC_BASE_MS", default=40
    )
    occ_cap_ms: Annotated[int, Meta(description="The longest wait after a lost compare-and-set.", ge=0)] = field(
        name="OCC_CAP_MS", default=1000
    )
    occ_attempts: Annotated[
        int, Meta(description="Compare-and-sets per batch before the batch as a whole is tried again.", ge=1, le=100)
    ] = field(name="OCC_ATTEMPTS", default=10)

    def __repr__(self) -> str:
        """Leave the key out, so that no log or traceback shows it."""
        return f"Settings(store_url={self.store_url!r}, site={self.site!r}, read_access={self.read_access!r}, ...)"

    @property
    def trusted_gateways(self) -> frozenset[str]:
        """The device ids of TRUST_GATEWAYS."""
        return frozenset(part.strip() for part in self.trust_gateways.split(",") if part.strip())


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Take the settings from the environment; raises SettingsError naming the first that is not acceptable."""
    known = {info.encode_name for info in msgspec.structs.fields(Settings)}
    try:
        return msgspec.convert({name: environment[name] for name in known & set(environment)}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"a setting is not acceptable: {error}") from None
