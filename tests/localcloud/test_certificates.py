import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from localcloud import certificate_authority as authority
from localcloud.certificate_order import Pem
from localcloud.certificates import CertificateError, Certificates, ensure_certificates, normal_name, server_ssl_context
from localcloud.cloud import CloudSettings, LocalCloud

NOW = dt.datetime.now(dt.UTC)
DAY = 86_400.0


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> list[str]:
    alternative = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in alternative]


@contextlib.contextmanager
def connected(
    server: ssl.SSLContext, ca_file: Path, hostname: str, version: ssl.TLSVersion | None = None
) -> Iterator[ssl.SSLSocket]:
    """A strict client of a server, after their handshake; only of that version, if one is given."""
    client = ssl.create_default_context(cafile=str(ca_file))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    if version is not None:
        client.minimum_version = client.maximum_version = version
    near, far = socket.socketpair()
    with near, far:
        thread = threading.Thread(target=_serve, args=(server, far))
        thread.start()
        try:
            with client.wrap_socket(near, server_hostname=hostname) as wrapped:
                wrapped.recv(1)
                yield wrapped
        finally:
            near.close()
            thread.join()


def handshake(certificates: Certificates, hostname: str, version: ssl.TLSVersion) -> str | None:
    with connected(server_ssl_context(certificates), certificates.ca_file, hostname, version) as client:
        return client.version()


def _serve(context: ssl.SSLContext, far: socket.socket) -> None:
    try:
        with context.wrap_socket(far, server_side=True) as wrapped:
            wrapped.send(b".")
    except (ssl.SSLError, OSError):
        pass  # the client's side tells


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1", "::1", "box.local", "192.168.1.5", "hub.example.com"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_strict_client_that_trusts_the_authority_accepts_every_name(
    tmp_path: Path, hostname: str, version: ssl.TLSVersion
) -> None:
    made = ensure_certificates(tmp_path, ["box.local", "192.168.1.5", "hub.example.com"])
    assert handshake(made, hostname, version) == version.name.replace("_", ".")


def test_a_name_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path, [])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made, "example.com", ssl.TLSVersion.TLSv1_3)


def test_the_authority_cannot_vouch_for_a_public_name(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path, [])
    stolen = authority.load(Pem(made.ca_file.read_bytes(), (tmp_path / "ca.key").read_bytes()))
    assert stolen is not None
    forged = authority.issue_server(stolen, ["example.com"], NOW)
    made.certificate_file.write_bytes(forged.pem().certificate)
    made.key_file.write_bytes(forged.pem().key)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(made, "example.com", ssl.TLSVersion.TLSv1_3)


def test_the_server_certificate_keeps_browsers_rules(tmp_path: Path) -> None:
    server = certificate(ensure_certificates(tmp_path, []).certificate_file)
    assert server.not_valid_after_utc - server.not_valid_before_utc <= dt.timedelta(days=397)
    get = server.extensions.get_extension_for_class
    assert list(get(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert get(x509.BasicConstraints).value.ca is False
    assert get(x509.AuthorityKeyIdentifier).value.key_identifier != get(x509.SubjectKeyIdentifier).value.digest


def test_a_second_call_changes_no_file_and_imports_no_cryptography(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, ["box.local"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    script = (
        "import sys, pathlib; from localcloud.certificates import ensure_certificates;"
        "ensure_certificates(pathlib.Path(sys.argv[1]), ['localhost']); print('cryptography' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_new_private_name_is_added_under_the_same_authority(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path, ["box.local"])
    trusted = made.ca_file.read_bytes()
    ensure_certificates(tmp_path, ["Other.LAN", "10.1.2.3"])
    assert names(made.certificate_file) == ["localhost", "127.0.0.1", "::1", "other.lan", "10.1.2.3", "box.local"]
    assert made.ca_file.read_bytes() == trusted


def test_a_name_beyond_the_constraints_needs_a_new_authority(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path, [])
    trusted = made.ca_file.read_bytes()
    ensure_certificates(tmp_path, ["mybox"])
    assert made.ca_file.read_bytes() != trusted
    assert handshake(made, "mybox", ssl.TLSVersion.TLSv1_2) == "TLSv1.2"


def test_the_server_certificate_is_renewed_before_it_ends(tmp_path: Path) -> None:
    start = NOW.timestamp()
    made = ensure_certificates(tmp_path, [], clock=lambda: start)
    trusted, first = made.ca_file.read_bytes(), made.certificate_file.read_bytes()
    ensure_certificates(tmp_path, [], clock=lambda: start + 270 * DAY)
    assert made.certificate_file.read_bytes() == first
    ensure_certificates(tmp_path, [], clock=lambda: start + 280 * DAY)
    assert made.certificate_file.read_bytes() != first
    assert made.ca_file.read_bytes() == trusted


def test_the_authority_is_replaced_before_it_ends_and_never_outlived(tmp_path: Path) -> None:
    start = NOW.timestamp()
    made = ensure_certificates(tmp_path, [], clock=lambda: start)
    trusted = made.ca_file.read_bytes()
    ensure_certificates(tmp_path, [], clock=lambda: start + 3500 * DAY)
    ends = certificate(made.ca_file).not_valid_after_utc
    assert certificate(made.certificate_file).not_valid_after_utc == ends
    ensure_certificates(tmp_path, [], clock=lambda: start + 3540 * DAY)
    assert made.ca_file.read_bytes() != trusted


@pytest.mark.parametrize("lost", ["ca.pem", "ca.key", "server.pem", "server.key", "issued.json"])
@pytest.mark.parametrize("content", [None, b"", b"torn"])
def test_lost_or_torn_files_are_made_anew(tmp_path: Path, lost: str, content: bytes | None) -> None:
    ensure_certificates(tmp_path, ["box.local"])
    (tmp_path / lost).unlink() if content is None else (tmp_path / lost).write_bytes(content)
    made = ensure_certificates(tmp_path, ["box.local", "next.local"])
    assert handshake(made, "next.local", ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


def test_who_issues_does_not_load_cryptography_which_would_stay_in_memory(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from localcloud.certificates import ensure_certificates\n"
        f"ensure_certificates(Path({str(tmp_path)!r}), []); sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "ca.pem").exists()


def test_an_issuer_that_fails_is_told_of_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named cryptography' >&2; exit 1\n")
    broken.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(broken))
        with pytest.raises(CertificateError, match=r"\(No module named cryptography\)"):
            ensure_certificates(tmp_path / "certificates", [])
    assert not list((tmp_path / "certificates").glob("*.[pk]e[my]"))
    assert handshake(ensure_certificates(tmp_path / "certificates", []), "localhost", ssl.TLSVersion.TLSv1_3)


def test_every_file_is_private(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path / "certificates", [])
    directory = made.ca_file.parent
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "name", ["", "a b", "*", "a..b", "-a", "x" * 254, "0.0.0.0", "::", "224.0.0.1", "ä.local", "a/b"]
)
def test_what_is_no_host_is_not_certified(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        ensure_certificates(tmp_path, [name])


def test_names_are_written_one_way() -> None:
    assert [normal_name(name) for name in ("LocalHost.", "[::1]", "0:0:0:0:0:0:0:1", "fe80::1%eth0")] == [
        "localhost", "::1", "::1", "fe80::1",
    ]  # fmt: skip


async def test_a_running_cloud_shows_a_certificate_that_was_issued_anew(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("localcloud.cloud._RENEWAL_SECONDS", 0.02)
    old = ensure_certificates(tmp_path / "certificates", ["box.local"], clock=lambda: NOW.timestamp() - 300 * DAY)
    context, before = server_ssl_context(old), certificate(old.certificate_file)
    assert shown_by(context, old.ca_file) == before.serial_number
    cloud = LocalCloud(CloudSettings(app_dir=tmp_path, data=tmp_path, hostname="box.local"), lambda _: None)
    renewal = asyncio.create_task(cloud._renew_certificates(context))
    try:
        async with asyncio.timeout(10):
            while shown_by(context, old.ca_file) == before.serial_number:  # noqa: ASYNC110 - what is waited for is a handshake
                await asyncio.sleep(0.02)
    finally:
        renewal.cancel()
    after = certificate(old.certificate_file)
    assert shown_by(context, old.ca_file) == after.serial_number
    assert after.not_valid_after_utc - before.not_valid_after_utc >= dt.timedelta(days=299)


def shown_by(context: ssl.SSLContext, ca_file: Path) -> int:
    """The serial number of what a strict client is shown, which it accepts."""
    with connected(context, ca_file, "box.local") as client:
        shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number
