"""Pings and timeouts, by a sweep."""

from localcloud.signalr.liveness import Due, Liveness


def sweep(liveness: Liveness, now: float) -> Due:
    return liveness.sweep(now, ping_after=15, end_after=30)


def test_a_silent_server_pings_and_a_silent_client_ends() -> None:
    liveness = Liveness(0)
    assert [sweep(liveness, now) for now in (0, 14, 15, 29, 30)] == [
        Due.NOTHING,
        Due.NOTHING,
        Due.PING,
        Due.PING,
        Due.END,
    ]


def test_what_was_said_since_the_last_sweep_counts_from_this_one() -> None:
    liveness = Liveness(0)
    liveness.heard = liveness.spoke = True
    assert sweep(liveness, 100) is Due.NOTHING
    assert sweep(liveness, 115) is Due.PING
    assert sweep(liveness, 130) is Due.END


def test_speaking_is_no_sign_of_the_client() -> None:
    liveness = Liveness(0)
    liveness.spoke = True
    assert sweep(liveness, 30) is Due.END
