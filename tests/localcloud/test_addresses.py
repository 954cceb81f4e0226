import socket

import pytest

from localcloud.addresses import AddressError, addresses_of, is_free, is_unspecified, listening


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def bind(host, port):
    with socket.socket() as listener:
        listener.bind((host, port))


def test_a_port_in_use_is_named_with_the_option_that_chooses_another(taken):
    with (
        pytest.raises(AddressError, match=f"port {taken} is in use.*--mqtt-port"),
        listening("127.0.0.1", taken, "--mqtt-port"),
    ):
        bind("127.0.0.1", taken)


def test_an_address_of_another_machine_is_named():
    with (
        pytest.raises(AddressError, match=r"192\.0\.2\.1 is no address of this machine"),
        listening("192.0.2.1", 1, "--x"),
    ):
        bind("192.0.2.1", 0)


def test_other_errors_pass():
    with pytest.raises(OSError, match="disk"), listening("127.0.0.1", 1, "--x"):
        raise OSError("disk")


def test_free_ports_and_taken_ones_are_told_apart(taken):
    assert not is_free("127.0.0.1", taken)
    assert is_free("127.0.0.1", 0)


def test_names_are_resolved_and_unknown_ones_have_no_address():
    assert "127.0.0.1" in addresses_of("localhost")
    assert addresses_of("no-such-host.invalid") == []


def test_every_address_is_told_from_one_address():
    assert is_unspecified("0.0.0.0")
    assert is_unspecified("::")
    assert not is_unspecified("127.0.0.1")
