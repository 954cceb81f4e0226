"""Who asks: the policies that sign a request, for azure.core's pipeline."""

import base64
import hashlib
import hmac
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy, AzureSasCredentialPolicy, SansIOHTTPPolicy

SCOPE: Final = "https://storage.azure.com/.default"


class SharedKeyPolicy(SansIOHTTPPolicy[Any, Any]):
    """Signs by the account's key, for the table service.

    https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    """

    def __init__(self, credential: AzureNamedKeyCredential) -> None:
        super().__init__()
        self._credential = credential

    def on_request(self, request: PipelineRequest[Any]) -> None:
        """Add the date and the signature."""
        account, key = self._credential.named_key
        sent = request.http_request
        date = formatdate(usegmt=True)
        resource = f"/{account}{urlsplit(sent.url).path}"
        text = "\n".join((sent.method, "", sent.headers["Content-Type"], date, resource))
        digest = hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)
        sent.headers["x-ms-date"] = date
        sent.headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"


def signing_policy(credential: Any) -> Any:
    """Choose by the credential of the SDK's own client: a key, a shared access signature, or an identity's token."""
    if isinstance(credential, AzureNamedKeyCredential):
        return SharedKeyPolicy(credential)
    if isinstance(credential, AzureSasCredential):
        return AzureSasCredentialPolicy(credential)
    return AsyncBearerTokenCredentialPolicy(credential, SCOPE)
