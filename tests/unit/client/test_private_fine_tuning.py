"""Private fine-tuning: what Opacus takes apart is each patient's own gradient, and nothing leaves without noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.opacus_gradients import check_classifier, loss_of_study, losses_of, opacus_gradients
from client.private_fine_tuning import OpacusTraining, one_study_each, open_private_training, take_private_step
from more_model.errors import ConfigError, RoundError
from more_model.evaluation.auroc import auroc
from more_model.evaluation.classifier import Classifier
from more_model.evaluation.private_training import PrivateStudies, PrivateTerms
from more_model.model.config import Lora
from more_model.model.lora import adapt_encoder, merged
from more_model.training.settings import TrainingSettings
from privacy.accounting import epsilon
from privacy.ledger.dataset import data_set
from privacy.ledger.errors import BudgetExhausted
from privacy.ledger.ledger import Ledger, open_ledger
from privacy.ledger.spending import Budget
from privacy.private_step import private_parameters
from privacy.unit_gradients import clipped_sum, unit_gradients

KEY = b"a key of one site, for tests only"
ALMOST_NO_NOISE = 1e-7
SCHEDULE = TrainingSettings(learning_rate=0.05, weight_decay=0.0, warmup_fraction=0.0)


def terms(**changes: Any) -> PrivateTerms:
    # Without sampling the accountant takes no time, and every step sees everybody.
    least = {"noise_multiplier": 1.0, "delta": 1e-3, "sampling_rate": 1.0, "public_patients": 50}
    return PrivateTerms.model_validate({**least, **changes})


@pytest.fixture
def classifier(small_model: Any) -> Callable[[str, str], Classifier]:
    """A builder by modality and recipe, without the checkpoint that `build_classifier` wants."""

    def build(modality: str, recipe: str) -> Classifier:
        tower = merged(getattr(small_model(), modality))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = Classifier(tower, 3)
        made.requires_grad_(False)
        if recipe == "lora":
            adapt_encoder(tower.encoder, Lora(rank=2, alpha=4.0, dropout=0.1), ("qkv",), 0)
            for name, parameter in tower.named_parameters():
                if ".lora_B." in name:  # it starts at zero, and A would then have no gradient to compare
                    nn.init.normal_(parameter, std=0.1)
        else:
            tower.encoder.vit.blocks[-1].attn.qkv.weight.requires_grad_(True)
        tower.head.requires_grad_(True)
        made.linear.requires_grad_(True)
        return made.eval()

    return build


def some_units(modality: str, count: int = 5) -> dict[str, Tensor]:
    """Stacked studies with their labels, one in three not stated."""
    generator = torch.Generator().manual_seed(1)
    shape = (count, 16, 16) if modality == "xray" else (count, 12, 50)
    study = torch.randn(*shape, generator=generator)
    target = (torch.arange(3 * count).reshape(count, 3) % 2).float()
    target[torch.arange(count), torch.arange(count) % 3] = math.nan
    return {"study": study if modality == "ecg" else (study * 60 + 128).clamp(0, 255).to(torch.uint8), "target": target}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("modality", ["xray", "ecg"])
@pytest.mark.parametrize("recipe", ["published", "lora"])
def test_opacus_and_our_own_gradients_of_a_patient_agree(
    classifier: Callable[[str, str], Classifier], modality: str, recipe: str
) -> None:
    module, units = classifier(modality, recipe), some_units(modality)
    parameters = private_parameters(module)
    own = unit_gradients(loss_of_study(module), parameters, units)
    with opacus_gradients(module) as gradients:
        found = gradients(loss_of_study(module), parameters, units)
        total = clipped_sum(loss_of_study(module), parameters, [units], 0.1, gradients=gradients)
    assert found.keys() == own.keys() == parameters.keys()
    assert (recipe == "lora") == any("lora_A" in name for name in found)
    for name, gradient in own.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)
    expected = clipped_sum(loss_of_study(module), parameters, [units], 0.1)
    assert (total.units, total.clipped) == (expected.units, expected.clipped) == (5, 5)
    for name, sums in expected.sums.items():
        torch.testing.assert_close(total.sums[name], sums, rtol=1e-3, atol=1e-6)


def test_opacus_leaves_nothing_behind(classifier: Callable[[str, str], Classifier]) -> None:
    module, units = classifier("xray", "lora"), some_units("xray")
    with opacus_gradients(module) as gradients:
        gradients(loss_of_study(module), private_parameters(module), units)
        assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part.training for part in module.modules())
    assert not any(hasattr(parameter, "grad_sample") for parameter in module.parameters())
    losses_of(module, units).sum().backward()
    assert not any(hasattr(parameter, "grad_sample") for parameter in module.parameters())


def test_a_model_of_ours_passes_the_checks(classifier: Callable[[str, str], Classifier]) -> None:
    check_classifier(classifier("xray", "lora"), some_units("xray")["study"], 3)


class BatchMean(nn.Module):
    """Sees the other studies, without a buffer or a name that would give it away."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, studies: Tensor) -> Tensor:
        answers: Tensor = self.linear(studies - studies.mean(dim=0))
        return answers


class Unused(nn.Module):
    """Holds a layer that trains and is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, studies: Tensor) -> Tensor:
        answers: Tensor = self.linear(studies)
        return answers


class Attending(nn.Module):
    """LoRA through PEFT on nn.MultiheadAttention, which runs past Opacus' hooks."""

    def __init__(self) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        super().__init__()
        self.inner = nn.Module()
        self.inner.attn = nn.MultiheadAttention(4, 2, batch_first=True)
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["attn"]), self.inner)
        self.linear = nn.Linear(4, 3)

    def forward(self, studies: Tensor) -> Tensor:
        tokens = studies[:, None].expand(-1, 3, -1)
        answers: Tensor = self.linear(self.inner.attn(tokens, tokens, tokens)[0].mean(dim=1))
        return answers


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "keeps running statistics.*normalisation"),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3).requires_grad_(False)),
            "freezing it changes nothing",
        ),
        (BatchMean, "moves when another record is replaced"),
        (Unused, "spare.weight: trains, but Opacus has no gradient"),
        (Attending, "lora_A.*no gradient of single studies"),
    ],
)
def test_models_whose_epsilon_would_be_false_are_refused(module: Callable[[], nn.Module], why: str) -> None:
    made_up = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match=f"(?s){why}"):
        check_classifier(module(), made_up, 3)


def features(
    patients: int, *, seed: int = 0, width: int = 48, tasks: int = 3, studies: int = 1, like: float = 1.0
) -> tuple[PrivateStudies, Tensor]:
    """Studies of ``patients`` with labels that show in the first few features; and all features."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 2, (patients, tasks), generator=generator).double().repeat_interleave(studies, dim=0)
    matrix = torch.randn(patients * studies, width, generator=generator)
    matrix[:, :tasks] += (2 * target.float() - 1) * 2 * like
    units = [("north", f"p{patient}") for patient in range(patients) for _ in range(studies)]
    made = PrivateStudies(
        units, target.numpy(), lambda places: matrix[list(places)], torch.randn(4, width, generator=generator)
    )
    return made, matrix


@pytest.fixture
def one_step() -> Callable[..., Tensor]:
    """One step of plain gradient descent with rate 1 on all studies given: how far a linear layer moves, as a vector
    (weights, then biases)."""

    def run(studies: PrivateStudies, chosen: PrivateTerms, *, noise: float, places: list[int] | None = None) -> Tensor:
        module = nn.Linear(studies.made_up.shape[1], studies.target.shape[1])
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
        rows = list(range(len(studies.units))) if places is None else places
        chunk = {"study": studies.read(rows), "target": torch.from_numpy(studies.target[rows]).float()}
        with opacus_gradients(module) as gradients:
            take_private_step(module, torch.optim.SGD(module.parameters(), 1.0), gradients, [chunk], chosen, noise)
        return torch.cat([module.weight.detach().flatten(), module.bias.detach()])

    return run


@pytest.mark.parametrize("places", [[], [0, 1, 2]])
def test_noise_on_the_step_is_z_times_c_over_the_expected_patients(
    one_step: Callable[..., Tensor], places: list[int]
) -> None:
    studies, _ = features(3, width=400, tasks=100)
    chosen = terms(clip_norm=0.3, sampling_rate=0.05, public_patients=200)
    first, second = (one_step(studies, chosen, noise=1.7, places=places) for _ in range(2))
    expected = 1.7 * 0.3 / (0.05 * 200)
    assert float((first - second).std()) == pytest.approx(expected * math.sqrt(2), rel=0.02)
    if not places:
        assert float(first.std()) == pytest.approx(expected, rel=0.02)
        assert abs(float(first.mean())) < 5 * expected / math.sqrt(len(first))


def test_without_noise_a_step_is_the_clipped_sum_over_the_public_number(one_step: Callable[..., Tensor]) -> None:
    studies, matrix = features(6)
    chosen = terms(clip_norm=0.2, sampling_rate=0.5, public_patients=100)
    moved = one_step(studies, chosen, noise=ALMOST_NO_NOISE)
    error = 0.5 - torch.from_numpy(studies.target).float()  # of a sigmoid at 0, averaged over three labels
    each = torch.cat([(error[:, :, None] * matrix[:, None, :]).flatten(1), error], dim=1) / 3
    each *= (0.2 / each.norm(dim=1, keepdim=True)).clamp(max=1)
    torch.testing.assert_close(moved, -each.sum(dim=0) / 50, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("like", [0.0, 20.0])
def test_one_patient_less_moves_the_step_by_at_most_c(one_step: Callable[..., Tensor], like: float) -> None:
    """Also where all patients are nearly the same and one is not."""
    studies, _ = features(16, like=like)
    chosen = terms(clip_norm=0.2)
    whole = one_step(studies, chosen, noise=ALMOST_NO_NOISE)
    for left_out in (0, 7, 15):
        rest = [place for place in range(16) if place != left_out]
        moved = (whole - one_step(studies, chosen, noise=ALMOST_NO_NOISE, places=rest)).norm() * 50
        assert float(moved) == pytest.approx(0.2, rel=1e-3)


def test_a_patient_has_one_study_whatever_others_have() -> None:
    studies, matrix = features(30, studies=4)
    chosen = one_study_each(studies, KEY)
    assert [studies.units[place] for place in chosen] == list(dict.fromkeys(studies.units))
    assert len(set(chosen % 4)) > 1, "not always the first"
    # Leaving a patient out, or another order, changes nobody's study.
    order = np.random.default_rng(0).permutation(120)
    order = order[[studies.units[place] != ("north", "p3") for place in order]]
    other = PrivateStudies(
        [studies.units[place] for place in order], studies.target[order], lambda p: matrix[order[list(p)]],
        studies.made_up,
    )  # fmt: skip
    again = {other.units[place]: order[place] for place in one_study_each(other, KEY)}
    first = {studies.units[place]: place for place in chosen}
    assert again == {unit: place for unit, place in first.items() if unit != ("north", "p3")}
    assert any(one_study_each(studies, b"another key of the same site") != chosen)


def macro_auroc(budget: OpacusTraining, steps: int) -> float:
    studies, _ = features(150)
    held, matrix = features(200, seed=1)
    module = nn.Linear(48, 3)
    budget.fit(module, studies, SCHEDULE, steps=steps, threads=1)
    with torch.inference_mode():
        logits = module(matrix).numpy()
    return float(np.mean([auroc(held.target[:, task], logits[:, task]).value for task in range(3)]))


@pytest.mark.parametrize(("budget", "low", "high"), [(20.0, 0.78, 1.0), (0.01, 0.25, 0.75)])
def test_learns_with_a_generous_budget_and_next_to_nothing_with_a_tiny_one(
    budget: float, low: float, high: float
) -> None:
    chosen = terms(noise_multiplier=None, epsilon=budget, public_patients=150)
    with open_private_training(chosen, 90, frozenset()) as opened:
        assert 0.98 * budget < opened.facts()["epsilon"] <= budget
        # The mean of several: one direction drawn at random may by chance be a good one.
        assert low < np.mean([macro_auroc(opened, 30) for _ in range(3)]) < high


def test_two_trainings_with_the_same_settings_differ() -> None:
    studies, _ = features(20)
    first, second = nn.Linear(48, 3), nn.Linear(48, 3)
    second.load_state_dict(first.state_dict())
    with open_private_training(terms(), 2, frozenset()) as opened:
        for module in (first, second):
            opened.fit(module, studies, SCHEDULE, steps=1, threads=1)
    assert not bool((first.weight == second.weight).all())


def test_patients_without_any_study_still_cost_steps_of_noise() -> None:
    studies, matrix = features(2)
    nobody = replace(studies, units=[], target=studies.target[:0], read=lambda places: matrix[list(places)])
    module = nn.Linear(48, 3)
    before = module.weight.clone()
    with open_private_training(terms(), 2, frozenset()) as opened:
        opened.fit(module, nobody, SCHEDULE, steps=2, threads=1)
    assert not bool((module.weight == before).any())


def test_no_step_runs_beyond_those_that_were_accounted() -> None:
    studies, _ = features(4)
    with open_private_training(terms(), 3, frozenset()) as opened:
        opened.fit(nn.Linear(48, 3), studies, SCHEDULE, steps=2, threads=1)
        with pytest.raises(RoundError, match="All 3 steps"):
            opened.fit(nn.Linear(48, 3), studies, SCHEDULE, steps=2, threads=1)


@pytest.fixture(scope="module")
def sampled() -> Iterator[OpacusTraining]:
    """Four hundred steps in which each patient is drawn with probability 0.05."""
    with open_private_training(terms(sampling_rate=0.05, delta=1e-5), 400, frozenset()) as opened:
        yield opened


def test_the_claim_is_of_patients_and_agrees_with_opacus_within_one_percent(sampled: OpacusTraining) -> None:
    from opacus.accountants import PRVAccountant

    facts = sampled.facts()
    assert (facts["unit"], facts["adjacency"], facts["steps"]) == ("patient", "add-remove", 400)
    accountant = PRVAccountant()
    accountant.history = [(1.0, 0.05, 400)]
    assert facts["epsilon"] == pytest.approx(accountant.get_epsilon(delta=1e-5), rel=0.01)
    assert not facts["ledger"]["charged"]
    assert "Nothing was charged" in facts["ledger"]["says"]


def test_every_step_draws_patients_anew_one_by_one(sampled: OpacusTraining) -> None:
    studies, matrix = features(400, studies=2)
    drawn: list[list[int]] = []

    def read(places: Any) -> Tensor:
        drawn[-1] += list(places)
        return matrix[list(places)]

    drawn.append([])  # what is read to choose studies by
    sampled.fit(
        nn.Linear(48, 3), replace(studies, read=read), SCHEDULE, steps=20, threads=1,
        on_step=lambda _done, _steps: drawn.append([]),
    )  # fmt: skip
    steps = [[studies.units[place] for place in step] for step in drawn[1:20]]
    assert all(len(set(step)) == len(step) for step in steps), "a patient twice in one step"
    sizes = [len(step) for step in steps]
    assert len(set(sizes)) > 1, "a fixed size is no Poisson draw"
    assert 14 < np.mean(sizes) < 26
    assert len({unit for step in steps for unit in step}) > 200


def test_a_torch_generator_has_but_32_bits_of_seed_on_a_cpu() -> None:
    """The reason why Opacus' noise is not used; where this fails, torch has a better generator now."""
    draws = [torch.randn(8, generator=torch.Generator().manual_seed(5 + high)) for high in (0, 1 << 40)]
    assert torch.equal(*draws)


@pytest.fixture
def site_ledger(tmp_path: Path) -> Iterator[tuple[Ledger, dict[str, Path]]]:
    """The ledger of a site whose patients p0 to p9 have a budget; and the paths as terms."""
    (tmp_path / "key").write_bytes(KEY)
    paths = {"ledger": tmp_path / "a" / "l.sqlite", "witness": tmp_path / "b" / "w", "site_key": tmp_path / "key"}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    known = data_set("chest", [f"p{number}" for number in range(10)], KEY)
    ledger = open_ledger(paths["ledger"], paths["witness"], site="north", key_digest=known.key_digest)
    ledger.register(known, Budget(3.0, 1e-3))
    yield ledger, paths


def patients_of(*numbers: int, site: str = "north") -> frozenset[tuple[str, str]]:
    return frozenset((site, f"p{number}") for number in numbers)


def test_a_ledger_is_charged_before_and_gets_back_what_did_not_run(
    site_ledger: tuple[Ledger, dict[str, Path]],
) -> None:
    ledger, paths = site_ledger
    studies, _ = features(4)
    with open_private_training(terms(noise_multiplier=8.0, **paths), 20, patients_of(3, 40)) as opened:
        [own] = [account for account in ledger.state().accounts.values() if account.name != "chest"]
        assert [charge.charge.steps for charge in own.charges.values()] == [20]
        opened.fit(nn.Linear(48, 3), studies, SCHEDULE, steps=5, threads=1)
        assert opened.facts()["ledger"]["charged"]
    [chest] = [account for account in ledger.state().accounts.values() if account.name == "chest"]
    assert ledger.spent(chest.digest).epsilon == epsilon(8.0, 1.0, 5, 1e-3).epsilon
    # The same patients are known again.
    with open_private_training(terms(noise_multiplier=8.0, **paths), 1, patients_of(40, 3)):
        assert len(ledger.state().accounts) == 2


def test_a_ledger_refuses_what_would_cross_the_budget_of_some_of_the_patients(
    site_ledger: tuple[Ledger, dict[str, Path]],
) -> None:
    _, paths = site_ledger
    with (
        pytest.raises(BudgetExhausted, match="another data set's"),
        open_private_training(terms(noise_multiplier=0.5, **paths), 50, patients_of(9, 70)),
    ):
        pass
    with open_private_training(terms(noise_multiplier=0.5, **paths), 50, patients_of(70)) as opened:
        assert opened.facts()["ledger"]["charged"]


def test_patients_of_two_sites_have_no_ledger_in_common(site_ledger: tuple[Ledger, dict[str, Path]]) -> None:
    both = patients_of(1) | patients_of(2, site="south")
    with pytest.raises(ConfigError, match="come from 2 sites"), open_private_training(terms(**site_ledger[1]), 1, both):
        pass
