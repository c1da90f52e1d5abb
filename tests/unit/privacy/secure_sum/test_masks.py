"""Masks against a published keystream, as noise without pattern, and gone when they should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.quantise import Encoded, word_type
from privacy.secure_sum.errors import SumRefused
from privacy.secure_sum.keystream import add_mask, derived_key
from privacy.secure_sum.masks import Bundle, Secrets, commitment, pair_mask_key, seal, unseal
from privacy.secure_sum.shamir import SHARE_BYTES

# RFC 8439, appendix A.1, test vector 1: key, nonce and counter zero.
RFC_8439_A1 = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
# 99.9999 % point of chi-square with 255 degrees of freedom; a uniform stream exceeds it once in a million runs.
CHI_SQUARE_LIMIT = 377.1


def chi_square_of_bytes(words: np.ndarray) -> float:
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("word_bits", [32, 64])
def test_the_stream_is_chacha20(word_bits: int) -> None:
    words = np.zeros(256 // word_bits, word_type(word_bits))
    add_mask(words, bytes(32))
    assert words.tobytes().hex() == RFC_8439_A1


@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize("count", [1, 65536, 65537, 150_001])
def test_a_mask_added_and_subtracted_leaves_nothing(word_bits: int, count: int) -> None:
    before = np.arange(count).astype(word_type(word_bits)) * np.array(2_654_435_761, word_type(word_bits))
    words = before.copy()
    add_mask(words, b"k" * 32)
    assert np.count_nonzero(words != before) > 0.99 * count
    add_mask(words, b"k" * 32, subtract=True)
    assert words.tobytes() == before.tobytes()


def test_the_stream_does_not_repeat_from_chunk_to_chunk() -> None:
    words = np.zeros(300_000, np.uint32)
    add_mask(words, b"k" * 32)
    # 300,000 of 2^32 values: about 10 coincidences are expected, some thousand if a chunk came twice.
    assert len(np.unique(words)) > 299_900


def test_a_masked_input_of_zeros_looks_uniform_and_chi_square_can_tell(room: Callable[..., Any]) -> None:
    here = room(4, words={"text": 60_000})
    zeros = Encoded({"text": np.zeros(60_000, np.uint32)}, here.weights["s00"], 1000)
    deliveries = here.share(here.advertise())
    masked = here.sites["s00"].mask(deliveries["s00"], zeros).words["text"]
    assert chi_square_of_bytes(masked) < CHI_SQUARE_LIMIT
    assert chi_square_of_bytes(here.encoded["s00"].words["text"]) > 10 * CHI_SQUARE_LIMIT
    # Neighbouring words are as good as independent: correlation of 60,000 pairs, 5 standard deviations.
    centred = masked.astype(np.float64) - masked.mean()
    assert abs(float(np.corrcoef(centred[:-1], centred[1:])[0, 1])) < 5 / 60_000**0.5


def test_the_same_integers_masked_in_two_sessions_have_nothing_in_common(room: Callable[..., Any]) -> None:
    masked = []
    for number in (1, 2):
        here = room(4, words={"text": 60_000}, round=number)
        deliveries = here.share(here.advertise())
        masked.append(here.sites["s00"].mask(deliveries["s00"], here.encoded["s00"]).words["text"])
    assert np.count_nonzero(masked[0] == masked[1]) < 5
    assert chi_square_of_bytes(masked[0] - masked[1]) < CHI_SQUARE_LIMIT


def test_masking_does_not_touch_the_sites_own_integers(room: Callable[..., Any]) -> None:
    here = room(4)
    before = here.encoded["s00"].words["text"].tobytes()
    here.play()
    assert here.encoded["s00"].words["text"].tobytes() == before


def test_pair_masks_are_the_same_at_both_ends_and_differ_by_group_and_list() -> None:
    one, two = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    public = {"a": one.public_key().public_bytes_raw(), "b": two.public_key().public_bytes_raw()}
    key = pair_mask_key(one, public["b"], ("a", "b"), "text", "list")
    assert key == pair_mask_key(two, public["a"], ("b", "a"), "text", "list")
    others = [
        pair_mask_key(one, public["b"], ("a", "b"), "ecg", "list"),
        pair_mask_key(one, public["b"], ("a", "b"), "text", "other list"),
        pair_mask_key(one, public["b"], ("a", "c"), "text", "list"),
    ]
    assert len({key, *others}) == 4


def test_a_box_opens_only_for_its_recipient_sender_and_list() -> None:
    sender, recipient = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    keys = sender.public_key().public_bytes_raw(), recipient.public_key().public_bytes_raw()
    box = seal(sender, keys[1], "a", "b", "list", b"shares")
    assert unseal(recipient, keys[0], "a", "b", "list", box) == b"shares"
    assert box != seal(sender, keys[1], "a", "b", "list", b"shares")
    for names in (("b", "a", "list"), ("a", "b", "other list"), ("a", "c", "list")):
        with pytest.raises(SumRefused, match="cannot be opened"):
            unseal(recipient, keys[0], *names, box)


def test_bundles_round_trip_and_refuse_another_length() -> None:
    bundle = Bundle(b"k" * SHARE_BYTES, {"text": b"t" * SHARE_BYTES, "ecg": b"e" * SHARE_BYTES})
    assert Bundle.from_bytes(bundle.to_bytes(), {"text": 3, "ecg": 1}) == bundle
    with pytest.raises(SumRefused, match="are not one key share and 1 seeds'"):
        Bundle.from_bytes(bundle.to_bytes(), ["text"])


def test_secrets_are_never_the_same_twice() -> None:
    drawn = [Secrets.fresh(["text", "ecg"]) for _ in range(3)]
    seeds = {seed for secrets in drawn for seed in secrets.seeds.values()}
    keys = {key.private_bytes_raw() for secrets in drawn for key in (secrets.sealing, secrets.masking)}
    assert (len(seeds), len(keys)) == (6, 6)
    assert len({commitment(seed) for seed in seeds}) == 6


def test_derived_keys_depend_on_their_purpose() -> None:
    assert derived_key(b"s" * 32, b"one") != derived_key(b"s" * 32, b"two")
