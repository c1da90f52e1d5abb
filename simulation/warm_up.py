"""The frozen base of a run: taken from a folder, built from a seed, or warmed up on a public synthetic cohort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from more_model.base import Base, load_base, save_base
from more_model.data.sources import read_sources
from more_model.data.study import Split
from more_model.importing.local import local_base
from more_model.model.config import ModelConfig
from more_model.model.more import build_more
from more_model.tokenizer import load_tokenizer, train_tokenizer
from more_model.training.embed import words_of
from more_model.training.examples import Examples
from more_model.training.loop import Segment, build_optimiser, resolve_device, train_segment
from more_model.training.seeds import derived_seed
from more_model.training.settings import TrainingSettings
from simulation.cohort import ingest_sites, read_site, synthetic_sources
from simulation.settings import BaseChoice, DataChoice, WarmUp
from simulation.synthetic.tree import write_cohort

OnStep = Callable[[int, int], None]
OnExamples = Callable[[Examples], Examples]


def prepare_base(
    choice: BaseChoice,
    model: ModelConfig,
    training: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    workers: int,
    on_step: OnStep | None = None,
    change: OnExamples | None = None,
    public: Path | None = None,
) -> Path:
    """The base folder of this run, made if it is not there yet.

    ``change`` alters what the public cohort is trained on (an ablation leaves something out); ``public`` is where that
    cohort lies, if not in ``folder``.
    """
    if choice.kind == "path" and choice.path is not None:
        load_base(choice.path)  # refuse now what would be refused later
        return choice.path
    made = folder / "base"
    if (made / "base.json").is_file():
        return made
    if choice.kind == "warm-up" and choice.warm_up is not None:
        base = _warmed_up(
            choice.warm_up,
            model,
            training,
            public or folder / "public",
            seed=seed,
            workers=workers,
            on_step=on_step,
            change=change or (lambda examples: examples),
        )
    else:
        base = _seeded(choice, model, seed)
    save_base(base, made)
    return made


def _seeded(choice: BaseChoice, model: ModelConfig, seed: int) -> Base:
    if choice.tokenizer is not None:
        tokenizer = load_tokenizer(choice.tokenizer)
    else:
        assert choice.tokenizer_texts is not None
        texts = choice.tokenizer_texts.read_text(encoding="utf-8").splitlines()
        tokenizer = train_tokenizer(texts, model.text.vocabulary)
    return local_base(model, tokenizer, seed)


def _warmed_up(
    warm_up: WarmUp,
    model: ModelConfig,
    training: TrainingSettings,
    folder: Path,
    *,
    seed: int,
    workers: int,
    on_step: OnStep | None,
    change: OnExamples,
) -> Base:
    examples = change(public_examples(warm_up, model, folder, workers=workers))
    texts = [text for text in map(words_of, examples.triplets) if text is not None]
    tokenizer = train_tokenizer(texts, model.text.vocabulary)
    built = build_more(model, seed=derived_seed(seed, "base"), pad_id=int(tokenizer.pad_token_id))
    settings = training.model_copy(update={"learning_rate": warm_up.learning_rate, "proximal_mu": 0.0})
    built.to(resolve_device(settings.device))
    train_segment(
        built,
        build_optimiser(built, settings),
        examples,
        settings,
        Segment(0, 1, warm_up.epochs),
        tokenizer=tokenizer,
        max_tokens=model.text.max_tokens,
        seed=derived_seed(seed, "warm-up"),
        on_step=on_step,
    )
    patients = len({triplet.patient_id for triplet in examples.triplets})
    origin = (
        f"The base was warmed up for {warm_up.epochs} epochs on a public synthetic cohort of {patients} patients "
        f"(ids from {warm_up.cohort.first_subject_id})."
    )
    return Base(model, built.to("cpu"), tokenizer, origin)


def public_examples(warm_up: WarmUp, model: ModelConfig, folder: Path, *, workers: int) -> Examples:
    """Write, ingest and pair the public cohort; all of it is training data."""
    write_cohort(warm_up.cohort, folder / "tree", workers=workers)
    sources, tables = synthetic_sources(folder / "tree")
    choice = DataChoice(sources=sources, label_tables=tables)
    studies = read_sources(sources, tables)
    ingest_sites({"public": studies}, model.preprocessing, folder / "store", ceiling=0.05, workers=workers)
    everyone = {study.patient_id: Split.TRAIN for study in studies}
    examples, _, _ = read_site(folder / "store" / "public", choice, everyone)
    return examples
