"""What `certificates` asks of `certificate_authority`, a program of its own, and what it gets."""

import datetime as dt

import msgspec

RENEW_BEFORE = dt.timedelta(days=120)
"""A server that starts once in four months never shows a certificate that has ended."""


class Pem(msgspec.Struct, frozen=True):
    """A certificate and its private key."""

    certificate: bytes
    key: bytes


class Order(msgspec.Struct, frozen=True):
    """The names to certify, the Unix time in seconds, and the authority there is, if any."""

    names: list[str]
    now: float
    authority: Pem | None


class Delivery(msgspec.Struct, frozen=True):
    """A server certificate, when to renew it in Unix time, and its authority where that had to be made anew."""

    server: Pem
    renew_at: float
    authority: Pem | None
