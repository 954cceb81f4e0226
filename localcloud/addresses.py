"""Names, addresses and ports of this machine: what listeners need to know, and what to say when they cannot listen."""

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator


class AddressError(Exception):
    """A listener cannot have its address; the operator can act on the sentence."""


def is_unspecified(host: str) -> bool:
    """Whether listening on `host` means listening on every address of this machine."""
    return host in {"", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound


def is_loopback(host: str) -> bool:
    """Whether only this machine can come to a listener on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def addresses_of(hostname: str) -> list[str]:
    """The addresses for which a host name stands; none where it cannot be resolved."""
    try:
        found = socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(address[4][0]).partition("%")[0] for address in found))


def is_free(host: str, port: int) -> bool:
    """Whether a listener could have the port now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def listening(host: str, port: int, option: str) -> Iterator[None]:
    """Turn what the system says of an address into AddressError; `option` is what chooses the port."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"port {port} is in use: stop the program that holds it, or choose another with {option}"
        elif error.errno == errno.EACCES:
            sentence = f"port {port} needs privileges: choose one above 1023 with {option}"
        elif error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            sentence = f"{host} is no address of this machine: choose one with --host"
        else:
            raise
        raise AddressError(sentence) from error
