"""The secrets of one data directory: made once, kept in a file of mode 0600, never logged."""

import base64
import os
import secrets
from pathlib import Path

import msgspec


def new_key() -> str:
    """Return a random base64 key of 32 bytes."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Base64 keys of 32 random bytes each."""

    iothubowner: str = msgspec.field(default_factory=new_key)
    signalr: str = msgspec.field(default_factory=new_key)
    function_master: str = msgspec.field(default_factory=new_key)
    function_default: str = msgspec.field(default_factory=new_key)

    def __repr__(self) -> str:
        """A repr without the secrets, so that no log or traceback shows them."""
        return "Keys(...)"


def load_or_create_keys(path: Path) -> Keys:
    """Read the keys, or make them in one atomic step; two processes that race end with the same keys.

    Raises msgspec.DecodeError where the file is not what this function wrote, OSError as it comes.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Keys)
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(Keys()))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return msgspec.json.decode(path.read_bytes(), type=Keys)
