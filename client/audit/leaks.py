"""Level 4, projection heads: does the change of a head's first matrix betray whose features entered it?

That gradient is a sum of outer products of errors and features, so its rows lie in the span of the features of the
batch: where a batch is smaller than the width, whoever holds a record can check whether it took part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from client.audit.one_step import Gradients, plain_gradients, private_gradients, private_words, step_on, trainable_copy
from client.audit.pairs import PAIRED, has_pair
from client.audit.retrain import retrained
from client.audit.site import AuditedSite
from more_model.data.study import Modality
from more_model.model.inventory import export_tensors
from more_model.training.embed import embed
from more_model.training.examples import Examples, epoch_batches
from more_model.training.seeds import derived_seed
from privacy.audit.subject import HeadLeak

#: What reports call them.
_HEADS = {Modality.XRAY: "X-ray head", Modality.ECG: "ECG head"}
#: Fewer pairs have no contrastive loss.
_FEWEST = 2

Features = npt.NDArray[np.float32]


def head_leaks(site: AuditedSite) -> dict[str, HeadLeak]:
    """Updates of the X-ray and the ECG head, where the site trains them: of one step on one batch without and with
    privacy, and of the first round as it is sent. All start from the run's base.

    Members are the records behind the update (of the round: all training records), outsiders the site's held-out ones.
    Only the round is what a claim for patients speaks of: of a step, it counts on nobody knowing who was drawn. The
    mode `hospital` promises nothing for single patients at this epsilon, and what it protects is noised after sending.
    """
    batch = epoch_batches(site.members, site.recipe.training.batch_size, derived_seed(site.seed, "audit", "batch"))[0]
    modalities = [
        modality
        for modality in PAIRED
        if sum(has_pair(site.members.triplets[row], modality) for row in batch) >= _FEWEST
        and any(has_pair(triplet, modality) for triplet in site.outsiders.triplets)
    ]
    members, outsiders = _features(site, site.members), _features(site, site.outsiders)
    patients_are_promised = site.recipe.plan is not None and site.claim.unit == "patient"
    found: dict[str, HeadLeak] = {}
    for update, rows, gradients in _updates(site, batch, modalities):
        for modality in modalities:
            of_update = members[modality] if rows is None else members[modality][list(rows)]
            found[f"{_HEADS[modality]}, {update}"] = HeadLeak(
                gradients[_matrix(modality)],
                _present(of_update),
                _present(outsiders[modality]),
                covered_by_claim=rows is None and patients_are_promised,
            )
    return found


def _updates(
    site: AuditedSite, batch: Sequence[int], modalities: Sequence[Modality]
) -> list[tuple[str, Sequence[int] | None, Gradients]]:
    """Name, rows of the members behind it (None: all), and change of every head's first matrix."""
    names = [_matrix(modality) for modality in modalities]
    model, step = trainable_copy(site.start), step_on(site.members, batch)
    updates: list[tuple[str, Sequence[int] | None, Gradients]] = [
        ("one step, no privacy", batch, plain_gradients(model, step, names, site))
    ]
    if (words := private_words(site.recipe)) is not None:
        updates.append((words, batch, private_gradients(model, step, names, site)))
    noised_later = site.recipe.privacy.mode == "hospital"
    updates.append((f"a whole round as {'released' if noised_later else 'sent'}", None, _round(site, names)))
    return updates


def _round(site: AuditedSite, names: Sequence[str]) -> Gradients:
    seed = derived_seed(site.seed, "audit", "round")
    model = retrained(site.start, site.members, site.recipe, site=site.name, words=site.words, seed=seed, rounds=1)
    before, after = export_tensors(site.start), export_tensors(model)
    return {name: after[name].astype(np.float64) - before[name] for name in names}


def _features(site: AuditedSite, examples: Examples) -> dict[Modality, Features]:
    """What enters the heads, [n, width] each; NaN where an example lacks the modality, or words about it."""
    found = embed(trainable_copy(site.start), examples, threads=site.threads, **site.words)
    features = {Modality.XRAY: found.xray_features, Modality.ECG: found.ecg_features}
    for modality, of_modality in features.items():
        lacking = [not has_pair(triplet, modality) for triplet in examples.triplets]
        of_modality[lacking] = np.nan
    return features


def _present(features: Features) -> npt.NDArray[np.float64]:
    return np.asarray(features[~np.isnan(features).any(axis=1)], dtype=np.float64)


def _matrix(modality: Modality) -> str:
    return f"{modality.value}.head.0.weight"
