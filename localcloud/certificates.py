"""A certificate authority of one data directory, and the server certificate that it signs.

1. Issued once and kept; again only where the certificate nears its end, a name is missing, or the files do not belong
   together. Names once certified stay, so that a caller with fewer names changes nothing.
2. The authority is name-constrained: to names and addresses that are private by definition (localhost, .local,
   RFC 1918, ...) and to those that were asked for. Whoever steals its key cannot speak for the rest of the world.
   It is replaced, and devices must then trust the new one, only where a name lies beyond its constraints, its key is
   gone when something must be issued, or it nears its own end.
3. Browsers' rules: at most 397 days, serverAuth, SAN, key identifiers. EC P-256: every client knows it.
4. `cryptography` costs 100 ms and 11 MB, so another process loads it, and only to issue. What was issued is noted in
   issued.json, with the digest of the files that the note speaks of.
"""

import fcntl
import hashlib
import ipaddress
import logging
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from localcloud.certificate_order import Delivery, Order, Pem
from localcloud.private_files import write_private

ALWAYS_CERTIFIED = ("localhost", "127.0.0.1", "::1")

_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_logger = logging.getLogger(__name__)


class CertificateError(OSError):
    """The program that issues certificates failed; the operator must act on the sentence."""


class Certificates(msgspec.Struct, frozen=True):
    """Where the PEM files are; the first is the one to hand to devices and browsers."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


class _Note(msgspec.Struct, frozen=True):
    names: list[str]
    renew_at: float
    digest: str


def certificate_files(directory: Path) -> Certificates:
    """Return where the files of a directory are, or will be."""
    return Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")


def ensure_certificates(
    directory: Path, hostnames: Sequence[str], *, clock: Callable[[], float] = time.time
) -> Certificates:
    """Return certificates that hold for localhost and every given host name or address, issuing what is missing.

    Processes that race end with the same files. Raises ValueError for what is no host name, CertificateError, OSError.
    """
    files = certificate_files(directory)
    wanted, now = _wanted(hostnames), clock()
    with _locked(directory):
        note = _read_note(directory, files)
        if not _holds(note, wanted, now):
            _issue(directory, files, [*dict.fromkeys([*wanted, *(note.names if note else ())])], now)
    return files


def are_certified(directory: Path, hostnames: Sequence[str], *, clock: Callable[[], float] = time.time) -> bool:
    """Say whether a directory has certificates that hold for all these names. Raises ValueError, OSError."""
    return _holds(_read_note(directory, certificate_files(directory)), _wanted(hostnames), clock())


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


def _holds(note: _Note | None, wanted: Sequence[str], now: float) -> bool:
    return note is not None and now < note.renew_at and set(wanted) <= set(note.names)


def _wanted(hostnames: Sequence[str]) -> list[str]:
    return [normal_name(name) for name in (*ALWAYS_CERTIFIED, *hostnames)]


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _issue(directory: Path, files: Certificates, names: list[str], now: float) -> None:
    delivery = _delivered(Order(names, now, _authority(directory, files)))
    if delivery.authority is not None:
        is_first = not files.ca_file.exists()
        write_private(directory / "ca.key", delivery.authority.key)
        write_private(files.ca_file, delivery.authority.certificate)
        _logger.log(
            logging.INFO if is_first else logging.WARNING,
            "made a new certificate authority%s: give %s to devices and browsers, they trust no other",
            "" if is_first else ", for the old one has ended, lost its key or may not speak for a name",
            files.ca_file,
        )
    write_private(files.key_file, delivery.server.key)
    write_private(files.certificate_file, delivery.server.certificate)
    note = _Note(names=names, renew_at=delivery.renew_at, digest=_digest(files))
    write_private(directory / "issued.json", msgspec.json.encode(note))
    _logger.info("issued a server certificate for %s", ", ".join(names))


def _authority(directory: Path, files: Certificates) -> Pem | None:
    try:
        return Pem(files.ca_file.read_bytes(), (directory / "ca.key").read_bytes())
    except FileNotFoundError:
        return None


def _delivered(order: Order) -> Delivery:
    command = [sys.executable, "-m", "localcloud.certificate_authority"]
    ran = subprocess.run(command, input=msgspec.json.encode(order), capture_output=True, check=False)  # noqa: S603
    if ran.returncode:
        why = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CertificateError(
            f"no certificate could be issued ({why}): see to the installation, cryptography above all"
        )
    return msgspec.json.decode(ran.stdout, type=Delivery)


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
