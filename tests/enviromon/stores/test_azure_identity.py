"""A managed identity instead of a key: the platform's token endpoint as App Service has it, and Azurite with OAuth."""

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from localcloud.certificates import ensure_certificates
from tests.azurite.server import ACCOUNT, Azurite
from tests.http_servers import answering

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
AUDIENCE = "https://storage.azure.com"
PROGRAM = """
import asyncio
from enviromon.device_state import DeviceState
from enviromon.stores import Change, open_stores

async def main():
    stores = open_stores("azure-tables:STORAGE", "site")
    for revision in range(1, 4):
        held = await stores.devices.load(["d1"])
        change = Change(DeviceState("d1", revision=revision), held["d1"].etag if held else None)
        (result,) = await stores.devices.compare_and_set([change])
        assert result.outcome == "applied", result
    print((await stores.devices.load(["d1"]))["d1"].state.revision)
    await stores.close()

asyncio.run(main())
"""


class TokenEndpoint:
    """https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference"""

    def __init__(self):
        self.asked = []

    def token(self, request):
        asked = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        self.asked.append((asked.get("resource"), asked.get("client_id"), request.headers["X-IDENTITY-HEADER"]))
        now = int(time.time())
        claims = {
            "aud": AUDIENCE,
            "iss": "https://sts.windows.net/tenant/",
            "iat": now - 60,
            "nbf": now - 60,
            "exp": now + 3600,
        }
        token = jwt.encode(claims, "a key that nobody checks, of 32 bytes", "HS256")
        return {"access_token": token, "expires_on": str(now + 3600), "resource": AUDIENCE, "token_type": "Bearer"}


@pytest.fixture
def token_endpoint():
    made = TokenEndpoint()
    with answering(made.token) as made.url:
        yield made


def test_a_managed_identity_reads_and_writes_with_one_token(tmp_path, token_endpoint):
    certificates = ensure_certificates(tmp_path / "certificates", [])
    server = Azurite(
        tmp_path, "--oauth", "basic", "--cert", certificates.certificate_file, "--key", certificates.key_file
    )
    server.start()
    environment = os.environ | {
        "STORAGE__tableServiceUri": f"https://127.0.0.1:{server.port}/{ACCOUNT}",
        "STORAGE__credential": "managedidentity",
        "STORAGE__clientId": "the-client",
        "IDENTITY_ENDPOINT": f"{token_endpoint.url}/token",
        "IDENTITY_HEADER": "the-header",
        "SSL_CERT_FILE": str(certificates.ca_file),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=40,
            check=False,
        )  # fmt: skip
    finally:
        server.stop()
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert token_endpoint.asked == [(AUDIENCE, "the-client", "the-header")]
