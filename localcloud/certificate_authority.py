"""X.509 itself: a name-constrained authority and server certificates.

A program of its own (see certificates.py): reads an Order as JSON, writes a Delivery as JSON. Names are host names or
addresses as `certificates.normal_name` writes them; times are UTC.
"""

import datetime as dt
import ipaddress
import secrets
import sys
from collections.abc import Collection, Iterable

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localcloud.certificate_order import RENEW_BEFORE, Delivery, Order, Pem

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
PRIVATE_DOMAINS = ("localhost", "local", "lan", "internal", "home.arpa", "test")
PRIVATE_NETWORKS = (
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
    "::1/128", "fc00::/7", "fe80::/10",
)  # fmt: skip

_CLOCK_SKEW = dt.timedelta(hours=1)


class Issued(msgspec.Struct, frozen=True):
    """A certificate and its key, parsed."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> Pem:
        """Return both as PEM, the key as unencrypted PKCS 8."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pem(self.certificate.public_bytes(serialization.Encoding.PEM), key)


def deliver(order: Order) -> Delivery:
    """Issue a server certificate, by the authority at hand where it may still speak for all the names."""
    now = dt.datetime.fromtimestamp(order.now, dt.UTC)
    old = load(order.authority) if order.authority else None
    if old is None or old.certificate.not_valid_after_utc - RENEW_BEFORE <= now or not permits(old, order.names):
        old = None
    authority = old or new_authority(order.names, now)
    server = issue_server(authority, order.names, now)
    return Delivery(
        authority=None if old else authority.pem(),
        server=server.pem(),
        renew_at=(server.certificate.not_valid_after_utc - RENEW_BEFORE).timestamp(),
    )


def load(pem: Pem) -> Issued | None:
    """Read a pair; None where either is unreadable or they do not belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.certificate)
        key = serialization.load_pem_private_key(pem.key, None)
    except (ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return Issued(certificate, key)


def new_authority(names: Iterable[str], now: dt.datetime) -> Issued:
    """Make an authority that may certify these names, private domains and private networks, and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: two authorities of one name and different keys confuse trust stores.
    subject = _name(f"localcloud authority {secrets.token_hex(4)}")
    permitted = dict.fromkeys([*PRIVATE_DOMAINS, *PRIVATE_NETWORKS, *names])
    constraints = x509.NameConstraints([_constraint(name) for name in permitted], None)
    builder = (
        _builder(subject, subject, key, now, now + dt.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(constraints, critical=True)
    )
    return Issued(builder.sign(key, hashes.SHA256()), key)


def permits(authority: Issued, names: Iterable[str]) -> bool:
    """Say whether every name lies within the authority's constraints."""
    constraints = authority.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    permitted = constraints.permitted_subtrees or []
    domains = [subtree.value for subtree in permitted if isinstance(subtree, x509.DNSName)]
    networks = [subtree.value for subtree in permitted if isinstance(subtree, x509.IPAddress)]
    return all(_is_within(name, domains, networks) for name in names)


def issue_server(authority: Issued, names: Collection[str], now: dt.datetime) -> Issued:
    """Make a server certificate for the names, for 397 days or what is left of the authority's own time."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + dt.timedelta(days=SERVER_DAYS) - _CLOCK_SKEW, authority.certificate.not_valid_after_utc)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name("localcloud"), authority.certificate.subject, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative_name(name) for name in names]), critical=False)
        .add_extension(authority_id, critical=False)
    )
    return Issued(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _constraint(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)


def _is_within(name: str, domains: Iterable[str], networks: Iterable[object]) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return any(name == domain or name.endswith(f".{domain}") for domain in domains)
    return any(
        address in network
        for network in networks
        if isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network) and network.version == address.version
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(deliver(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))))
