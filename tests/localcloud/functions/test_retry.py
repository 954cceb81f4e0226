import pytest

from localcloud.functions.retry import RetryPolicy


def test_a_fixed_delay_ends_after_its_retries() -> None:
    policy = RetryPolicy(max_retries=2, minimum=5.0, maximum=None)
    assert [policy.delay(retries, lambda: 0.5) for retries in range(4)] == [5.0, 5.0, None, None]


def test_an_exponential_delay_grows_from_the_minimum_to_the_maximum() -> None:
    policy = RetryPolicy(max_retries=-1, minimum=2.0, maximum=30.0)
    assert [policy.delay(retries, lambda: 0.5) for retries in range(6)] == [2.0, 4.0, 6.0, 10.0, 18.0, 30.0]


@pytest.mark.parametrize("random", [0.0, 0.999])
def test_the_spread_stays_within_a_fifth_and_never_ends_without_limit(random: float) -> None:
    policy = RetryPolicy(max_retries=-1, minimum=2.0, maximum=1e6)
    delay = policy.delay(3, lambda: random)
    assert delay is not None
    assert 2 + 8 * 0.8 <= delay <= 2 + 8 * 1.2
    assert policy.delay(10**6, lambda: random) == 1e6


def test_no_retries_means_none() -> None:
    assert RetryPolicy(max_retries=0, minimum=1.0, maximum=None).delay(0, lambda: 0.0) is None
