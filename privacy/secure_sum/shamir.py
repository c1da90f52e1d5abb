"""Shamir's secret sharing (1979) of 32 byte secrets: any `threshold` shares give the secret, fewer say nothing of it.

Over the integers modulo the Mersenne prime 2^521 - 1. PyCryptodome's sharing, which Flower uses, is sound too, but
works in GF(2^128) bit by bit in Python: 50 sites would wait for minutes. Arithmetic on Python integers is not
constant-time; whoever can time this process on the site's own machine is outside the threat model.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from more_model.errors import ExchangeError

PRIME = 2**521 - 1
SECRET_BYTES = 32
SHARE_BYTES = 66


def split(secret: bytes, threshold: int, holders: int) -> tuple[bytes, ...]:
    """One share for each of ``holders``, the share of holder number i (from 1) at place i - 1.

    secret: `SECRET_BYTES` bytes. Each share: `SHARE_BYTES` bytes, the value at i of a random polynomial of degree
    ``threshold`` - 1 whose value at 0 is the secret.

    Raises:
        ExchangeError: a secret of another length, or a threshold outside 1..holders.
    """
    if len(secret) != SECRET_BYTES:
        raise ExchangeError(f"a secret of {len(secret)} bytes cannot be shared, {SECRET_BYTES} are needed")
    if not 1 <= threshold <= holders:
        raise ExchangeError(f"a threshold of {threshold} makes no sense among {holders} holders of shares")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return tuple(_value_at(place, coefficients).to_bytes(SHARE_BYTES, "big") for place in range(1, holders + 1))


def _value_at(place: int, coefficients: list[int]) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * place + coefficient) % PRIME
    return value


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from shares by number of their holder (from 1). All that are given are used.

    With fewer shares than the threshold, or with a false one, the result is another value: check it against something
    public. Mostly it is not even 32 bytes long, which is noticed here.

    Raises:
        ExchangeError: no shares, one that cannot be a share, or a result that cannot have been a secret.
    """
    values = {place: int.from_bytes(share, "big") for place, share in shares.items()}
    if not values or any(place < 1 or values[place] >= PRIME or len(shares[place]) != SHARE_BYTES for place in values):
        raise ExchangeError("these are not shares of a secret")
    secret = 0
    for place, value in values.items():
        above, below = 1, 1
        for other in values:
            if other != place:
                above = above * other % PRIME
                below = below * (other - place) % PRIME
        secret = (secret + value * above * pow(below, -1, PRIME)) % PRIME
    if secret.bit_length() > 8 * SECRET_BYTES:
        raise ExchangeError("the shares do not fit together: too few of them, or one is false")
    return secret.to_bytes(SECRET_BYTES, "big")
