"""The errors of enviromon, split by who must act.

EnviromonError
    StorageError            the operator: a store does not answer or refuses; whatever failed may be tried again
        ContentionError     nobody at first: compare-and-set lost every attempt; the batch is tried again
    SettingsError           the operator: a setting is missing or wrong; the sentence names it and says what to do
    RequestError            who sent the HTTP request: answered as problem details

What a device sends wrongly is no error but a `Rejection`, a value that ends as a dead letter.
"""


class EnviromonError(Exception):
    """The root; catch a branch of it, not this."""


class StorageError(EnviromonError):
    """A store failed. Nothing is known about whether the last write was applied."""


class ContentionError(StorageError):
    """Others won every attempt of a compare-and-set."""


class SettingsError(EnviromonError):
    """A setting is missing or not acceptable. The message never holds a secret's value."""


class RequestError(EnviromonError):
    """An HTTP request cannot be answered; `status` is the HTTP status, `detail` a sentence for its sender."""

    def __init__(self, status: int, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
