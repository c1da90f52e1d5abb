"""Any threshold of shares gives the secret; fewer are compatible with every secret."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest

from more_model.errors import ExchangeError
from privacy.secure_sum.shamir import PRIME, SHARE_BYTES, combine, split

SECRET = bytes(range(32))


def test_the_modulus_is_prime() -> None:
    """Lucas-Lehmer: 2^p - 1 is prime if and only if s_(p-2) = 0, with s_0 = 4, s_(i+1) = s_i^2 - 2."""
    value = 4
    for _ in range(519):
        value = (value * value - 2) % PRIME
    assert value == 0


@pytest.mark.parametrize(("threshold", "holders"), [(1, 1), (1, 4), (2, 3), (3, 5), (5, 5)])
def test_every_choice_of_threshold_shares_gives_the_secret(threshold: int, holders: int) -> None:
    shares = dict(enumerate(split(SECRET, threshold, holders), start=1))
    for size in range(threshold, holders + 1):
        for chosen in itertools.combinations(shares, size):
            assert combine({place: shares[place] for place in chosen}) == SECRET


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_extreme_secrets(secret: bytes) -> None:
    shares = split(secret, 26, 50)
    assert all(len(share) == SHARE_BYTES for share in shares)
    assert combine({place: shares[place - 1] for place in range(20, 46)}) == secret


def test_fewer_shares_are_compatible_with_any_secret() -> None:
    """With two of three shares fixed, every candidate secret has a third share that completes it."""
    shares = dict(enumerate(split(SECRET, 3, 3), start=1))
    for candidate in (bytes(32), b"\xff" * 32, os.urandom(32)):
        # The polynomial through (0, candidate) and the two shares, read at 3.
        points = {0: int.from_bytes(candidate, "big")} | {p: int.from_bytes(shares[p], "big") for p in (1, 2)}
        third = 0
        for place, value in points.items():
            for other in points:
                if other != place:
                    value = value * (3 - other) * pow(place - other, -1, PRIME) % PRIME
            third = (third + value) % PRIME
        assert combine({1: shares[1], 2: shares[2], 3: third.to_bytes(SHARE_BYTES, "big")}) == candidate


def test_a_share_of_a_fixed_secret_is_uniform_and_never_repeats() -> None:
    first = [split(SECRET, 2, 2)[0] for _ in range(2560)]
    assert len(set(first)) == 2560
    counts = np.bincount([share[-1] for share in first], minlength=256)
    # 99.9999 % point of chi-square with 255 degrees of freedom.
    assert float(((counts - 10) ** 2 / 10).sum()) < 377.1


def test_too_few_or_false_shares_are_noticed() -> None:
    shares = dict(enumerate(split(SECRET, 4, 6), start=1))
    with pytest.raises(ExchangeError, match="do not fit together"):
        combine({place: shares[place] for place in (1, 2, 3)})
    with pytest.raises(ExchangeError, match="do not fit together"):
        combine(shares | {2: bytes(SHARE_BYTES)})


@pytest.mark.parametrize("shares", [{}, {0: bytes(66)}, {1: bytes(65)}, {1: b"\xff" * 66}])
def test_what_cannot_be_shares_is_refused(shares: dict[int, bytes]) -> None:
    with pytest.raises(ExchangeError, match="not shares of a secret"):
        combine(shares)


def test_secrets_of_another_length_and_impossible_thresholds_are_refused() -> None:
    with pytest.raises(ExchangeError, match="31 bytes cannot be shared"):
        split(bytes(31), 2, 3)
    for threshold in (0, 4):
        with pytest.raises(ExchangeError, match=f"threshold of {threshold} makes no sense"):
            split(SECRET, threshold, 3)
