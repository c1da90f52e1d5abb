"""The masked sum is the plain sum of the integers, bit for bit, whoever gets lost, as long as the threshold is met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privacy.secure_sum.errors import SumRefused, SumVoid

STAGES = ("advertise", "share", "mask", "confirm", "reveal")


def contributing(names: list[str], lost: dict[str, tuple[str, ...]]) -> list[str]:
    gone = {name for stage in ("advertise", "share", "mask") for name in lost.get(stage, ())}
    return [name for name in names if name not in gone]


@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_bit_exact_with_sites_lost_at_one_stage(
    room: Callable[..., Any], stage: str, count: int, word_bits: int
) -> None:
    here = room(10, word_bits=word_bits)
    lost = {stage: ("s03", "s08")[:count]}
    result = here.play(lost)
    inside = contributing(list(here.sites), lost)
    assert set(result.sums) == {"text", "xray"}
    for group, words in result.sums.items():
        assert words.dtype == np.dtype(f"u{word_bits // 8}")
        assert words.tobytes() == here.plain(group, inside).tobytes()
        assert result.weights[group] == {name: here.weights[name][group] for name in inside}
    assert result.lost == dict.fromkeys(lost[stage], stage)
    assert result.withheld == ()


def test_bit_exact_with_one_site_lost_at_each_of_four_stages(room: Callable[..., Any]) -> None:
    here = room(10)
    lost = {"advertise": ("s00",), "share": ("s09",), "mask": ("s04",), "reveal": ("s05",)}
    result = here.play(lost)
    inside = contributing(list(here.sites), lost)
    assert len(inside) == 7
    assert result.sums["text"].tobytes() == here.plain("text", inside).tobytes()


def test_bit_exact_with_two_sites_lost_at_each_of_four_stages(room: Callable[..., Any]) -> None:
    # Eighteen sites: eight lost leave ten, which is more than half of eighteen and one colluder.
    here = room(18)
    lost = {"advertise": ("s00", "s17"), "share": ("s01", "s16"), "mask": ("s02", "s09"), "reveal": ("s03", "s10")}
    result = here.play(lost)
    assert result.sums["xray"].tobytes() == here.plain("xray", contributing(list(here.sites), lost)).tobytes()
    assert len(result.lost) == 8


@pytest.mark.parametrize("stage", STAGES)
def test_void_with_a_reason_below_the_threshold(room: Callable[..., Any], stage: str) -> None:
    here = room(6)  # threshold 4
    with pytest.raises(SumVoid, match=f"3 sites finished stage {stage}, 4 are needed; lost: s00, s02, s04") as caught:
        here.play({stage: ("s00", "s02", "s04")})
    assert caught.value.reason == "too-few-sites"
    with pytest.raises(SumRefused, match="the round is at: over"):
        here.coordinator.finish()


def test_eight_of_ten_lost_is_void_not_wrong(room: Callable[..., Any]) -> None:
    lost = {"advertise": ("s00", "s01"), "share": ("s02", "s03"), "mask": ("s04", "s05"), "reveal": ("s06", "s07")}
    with pytest.raises(SumVoid, match="4 sites finished stage mask, 6 are needed"):
        room(10).play(lost)


def test_each_tower_is_summed_over_the_sites_that_trained_it(room: Callable[..., Any]) -> None:
    groups = {
        "s00": {"text": 5, "xray": 5}, "s01": {"text": 1, "xray": 2}, "s02": {"text": 3, "ecg": 9},
        "s03": {"text": 4, "ecg": 4, "xray": 1}, "s04": {"text": 2, "ecg": 2}, "s05": {"ecg": 7},
    }  # fmt: skip
    here = room(6, words={"text": 4, "xray": 3, "ecg": 2}, groups=groups)
    result = here.play({"mask": ("s04",)})
    inside = {"text": ["s00", "s01", "s02", "s03"], "xray": ["s00", "s01", "s03"], "ecg": ["s02", "s03", "s05"]}
    for group, names in inside.items():
        assert result.sums[group].tobytes() == here.plain(group, names).tobytes()
        assert list(result.weights[group]) == names


def test_a_tower_with_two_contributors_is_neither_sent_nor_summed(room: Callable[..., Any]) -> None:
    groups = {name: {"text": 1} for name in ("s00", "s01", "s02")} | {"s03": {"text": 1, "ecg": 1}, "s04": {"ecg": 2}}
    here = room(5, words={"text": 4, "ecg": 2}, groups=groups)
    deliveries = here.share(here.advertise())
    sent = here.sites["s03"].mask(deliveries["s03"], here.encoded["s03"])
    assert set(sent.words) == {"text"}
    result = room(5, words={"text": 4, "ecg": 2}, groups=groups).play()
    assert result.withheld == ("ecg",)
    assert set(result.sums) == {"text"}


def test_a_tower_that_falls_to_two_contributors_after_masking_stays_hidden(room: Callable[..., Any]) -> None:
    groups = {name: {"text": 1} for name in ("s00", "s01")} | {
        name: {"text": 1, "ecg": 1} for name in ("s02", "s03", "s04")
    }
    here = room(5, words={"text": 4, "ecg": 2}, groups=groups)
    request = here.confirm(here.mask(here.share(here.advertise()), lost=("s04",)))
    revealed = here.sites["s00"].reveal(request)
    assert {group for shares in revealed.seeds.values() for group in shares} == {"text"}
    result = room(5, words={"text": 4, "ecg": 2}, groups=groups).play({"mask": ("s04",)})
    assert result.withheld == ("ecg",)


def test_extreme_integers_do_not_wrap(room: Callable[..., Any]) -> None:
    # 10 sites x weight 50 x 4294967 is just below 2^31.
    here = room(
        10, largest=(2**31 - 1) // 500, groups={f"s{number:02d}": {"text": 50, "xray": 50} for number in range(10)}
    )
    for name, encoded in here.encoded.items():
        for words in encoded.words.values():
            words[:] = np.array([-50 * here.terms.largest]).astype(np.uint32)
        assert encoded.words["text"].view(np.int32)[0] == -50 * here.terms.largest, name
    result = here.play()
    assert result.sums["text"].view(np.int32).tolist() == [-500 * here.terms.largest] * 7
