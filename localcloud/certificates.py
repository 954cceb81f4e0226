"""A certificate authority of one data directory, and the server certificate that it signs.

1. Issued once and kept; again only where the certificate nears its end, a name is missing, or the files do not belong
   together. Names once certified stay, so that a caller with fewer names changes nothing.
2. The authority is name-constrained: to names and addresses that are private by definition (localhost, .local,
   RFC 1918, ...) and to those that were asked for. Whoever steals its key cannot speak for the rest of the world.
   It is replaced, and devices must then trust the new one, only where a name lies beyond its constraints, its key is
   gone when something must be issued, or it nears its own end.
3. Browsers' rules: at most 397 days, serverAuth, SAN, key identifiers. EC P-256: every client knows it.
4. `cryptography` costs a start some 100 ms, so it is imported only to issue. What was issued is noted in issued.json,
   with the digest of the files that the note speaks of.
"""

import datetime as dt
import fcntl
import hashlib
import ipaddress
import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from localcloud.private_files import write_private

if TYPE_CHECKING:
    from localcloud.certificate_authority import Issued

# A server that starts once in four months never shows a certificate that has ended.
RENEW_BEFORE = dt.timedelta(days=120)
ALWAYS_CERTIFIED = ("localhost", "127.0.0.1", "::1")

_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_logger = logging.getLogger(__name__)


class Certificates(msgspec.Struct, frozen=True):
    """Where the PEM files are; the first is the one to hand to devices and browsers."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


class _Note(msgspec.Struct, frozen=True):
    names: list[str]
    renew_at: float
    digest: str


def ensure_certificates(
    directory: Path, hostnames: Sequence[str], *, clock: Callable[[], float] = time.time
) -> Certificates:
    """Return certificates that hold for localhost and every given host name or address, issuing what is missing.

    Processes that race end with the same files. Raises ValueError for what is no host name, OSError as it comes.
    """
    wanted = [normal_name(name) for name in (*ALWAYS_CERTIFIED, *hostnames)]
    files = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    with _locked(directory):
        note = _read_note(directory, files)
        if note is None or note.renew_at <= clock() or not set(wanted) <= set(note.names):
            _issue(directory, files, list(dict.fromkeys([*wanted, *(note.names if note else ())])), clock())
    return files


def server_ssl_context(certificates: Certificates) -> ssl.SSLContext:
    """Return a context for TLS 1.2 (all that azure-iot-device offers) and 1.3. Raises ssl.SSLError, OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(certificates.certificate_file, certificates.key_file)
    return context


def normal_name(name: str) -> str:
    """Return a host name in lower case or an address in its shortest form. Raises ValueError for anything else."""
    address = _address(name)
    if address is not None:
        if address.is_unspecified or address.is_multicast:
            raise ValueError(f"{name} is no address of one host")
        return str(address)
    lower = name.lower().rstrip(".")
    if not _HOST_NAME.fullmatch(lower):
        raise ValueError(f"{name!r} is no host name")
    return lower


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _issue(directory: Path, files: Certificates, names: Sequence[str], now: float) -> None:
    from localcloud import certificate_authority as x509  # noqa: PLC0415 - costs 100 ms, see the rules above

    start = dt.datetime.fromtimestamp(now, dt.UTC)
    authority = _usable_authority(directory, files, names, start)
    if authority is None:
        is_first = not files.ca_file.exists()
        authority = x509.new_authority(names, start)
        write_private(directory / "ca.key", authority.key_pem())
        write_private(files.ca_file, authority.certificate_pem())
        _logger.log(
            logging.INFO if is_first else logging.WARNING,
            "made a new certificate authority%s: give %s to devices and browsers, they trust no other",
            "" if is_first else ", for the old one has ended, lost its key or may not speak for a name",
            files.ca_file,
        )
    server = x509.issue_server(authority, names, start)
    write_private(files.key_file, server.key_pem())
    write_private(files.certificate_file, server.certificate_pem())
    renew_at = (server.certificate.not_valid_after_utc - RENEW_BEFORE).timestamp()
    note = _Note(names=list(names), renew_at=renew_at, digest=_digest(files))
    write_private(directory / "issued.json", msgspec.json.encode(note))
    _logger.info("issued a server certificate for %s", ", ".join(names))


def _usable_authority(
    directory: Path, files: Certificates, names: Collection[str], now: dt.datetime
) -> "Issued | None":
    from localcloud import certificate_authority as x509  # noqa: PLC0415

    try:
        authority = x509.load(files.ca_file.read_bytes(), (directory / "ca.key").read_bytes())
    except FileNotFoundError:
        return None
    if authority is None or authority.certificate.not_valid_after_utc - RENEW_BEFORE <= now:
        return None
    return authority if x509.permits(authority, names) else None


def _read_note(directory: Path, files: Certificates) -> _Note | None:
    try:
        note = msgspec.json.decode((directory / "issued.json").read_bytes(), type=_Note)
        return note if note.digest == _digest(files) else None
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _digest(files: Certificates) -> str:
    contents = b"\0".join(file.read_bytes() for file in (files.ca_file, files.certificate_file, files.key_file))
    return hashlib.sha256(contents).hexdigest()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
