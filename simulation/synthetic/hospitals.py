"""Eight built-in hospitals that differ in machines, writing, case mix and what they tend not to have."""

from __future__ import annotations

import hashlib
import json

from more_model.errors import ConfigError
from simulation.synthetic.config import (
    GENERATOR_VERSION,
    EcgDevice,
    HospitalProfile,
    Hospitals,
    Scanner,
    SynthConfig,
    WritingStyle,
)

BUILT_IN: tuple[HospitalProfile, ...] = (
    HospitalProfile(
        name="academic",
        scanner=Scanner(manufacturer="Synthetic Imaging", model_name="SI-DX 9", aspect=0.84, ap_rate=0.45),
        device=EcgDevice(cart_id_first=6_848_000),
        style=WritingStyle(manner="plain", negation_rate=0.6),
    ),
    HospitalProfile(
        name="harbour",
        scanner=Scanner(
            manufacturer="Phantom Medical",
            model_name="PM 200",
            modality="CR",
            photometric="MONOCHROME1",
            aspect=1.0,
            gamma=1.25,
            sharpness=0.6,
            noise=0.03,
            marker="R",
            ap_rate=0.6,
        ),
        device=EcgDevice(cart_id_first=7_120_000, wander_mv=0.12, muscle_mv=0.025, filtering="<not specified>"),
        style=WritingStyle(
            manner="terse",
            order=("heart", "lungs", "pleura", "bones", "devices"),
            negation_rate=0.35,
            no_findings_rate=0.25,
            no_impression_rate=0.0,
        ),
        case_mix={"Pneumonia": 1.4, "Consolidation": 1.3, "Pleural Other": 1.4, "Fracture": 0.8, "HYP": 1.2},
        missing_ecg=0.15,
    ),
    HospitalProfile(
        name="cardiac",
        scanner=Scanner(
            manufacturer="Mock Radiology",
            model_name="MR-Bedside",
            gamma=0.85,
            contrast=1.1,
            collimation=0.03,
            marker="PORTABLE",
            ap_rate=0.8,
        ),
        device=EcgDevice(cart_id_first=7_440_000, muscle_mv=0.01, wander_mv=0.05),
        style=WritingStyle(manner="verbose", order=("devices", "heart", "lungs", "pleura", "bones"), negation_rate=0.7),
        case_mix={
            "Cardiomegaly": 1.5,
            "Edema": 1.4,
            "Support Devices": 1.5,
            "MI": 1.4,
            "CD": 1.4,
            "AFIB": 1.4,
            "HYP": 1.3,
            "Lung Lesion": 0.7,
            "Fracture": 0.7,
        },
        missing_xray=0.1,
        missing_ecg=0.02,
    ),
    HospitalProfile(
        name="county",
        scanner=Scanner(
            manufacturer="Phantom Medical",
            model_name="PM 90",
            modality="CR",
            aspect=0.9,
            gamma=1.1,
            contrast=0.85,
            noise=0.035,
            marker="L",
            ap_rate=0.5,
        ),
        device=EcgDevice(cart_id_first=7_760_000, mains_hz=50.0, mains_mv=0.025, filtering="50 Hz notch"),
        style=WritingStyle(manner="plain", order=("lungs", "heart", "pleura", "bones", "devices"), negation_rate=0.45),
        case_mix={"Lung Lesion": 1.3, "Atelectasis": 1.2, "Edema": 0.9, "CD": 0.8},
        missing_ecg=0.25,
    ),
    HospitalProfile(
        name="trauma",
        scanner=Scanner(
            manufacturer="Mock Radiology",
            model_name="MR-Ceiling",
            gamma=0.95,
            contrast=1.15,
            sharpness=0.9,
            collimation=0.05,
            marker="AP",
            ap_rate=0.9,
        ),
        device=EcgDevice(cart_id_first=8_080_000, muscle_mv=0.035, wander_mv=0.15),
        style=WritingStyle(manner="terse", negation_rate=0.5, no_findings_rate=0.15, addendum_rate=0.08),
        case_mix={"Fracture": 1.8, "Pneumothorax": 1.7, "Support Devices": 1.3, "MI": 0.7, "HYP": 0.8, "Edema": 0.8},
        missing_ecg=0.2,
    ),
    HospitalProfile(
        name="pulmonary",
        scanner=Scanner(
            manufacturer="Synthetic Imaging",
            model_name="SI-CR 4",
            modality="CR",
            photometric="MONOCHROME1",
            aspect=0.84,
            gamma=0.9,
            marker="L",
            ap_rate=0.3,
        ),
        device=EcgDevice(cart_id_first=8_400_000, filtering="Baseline filter"),
        style=WritingStyle(manner="verbose", negation_rate=0.65, no_impression_rate=0.2),
        case_mix={"Lung Lesion": 1.5, "Pleural Other": 1.5, "Consolidation": 1.3, "Pleural Effusion": 1.2, "MI": 0.8},
        missing_ecg=0.35,
    ),
    HospitalProfile(
        name="rural",
        share=0.6,
        scanner=Scanner(
            manufacturer="Phantom Medical", model_name="PM 20", aspect=1.0, contrast=0.9, noise=0.04, sharpness=0.55
        ),
        device=EcgDevice(cart_id_first=8_720_000, mains_mv=0.03, wander_mv=0.12, muscle_mv=0.03),
        style=WritingStyle(manner="terse", negation_rate=0.3, no_impression_rate=0.3, no_findings_rate=0.0),
        missing_xray=0.25,
        missing_ecg=0.1,
    ),
    HospitalProfile(
        name="outpatient",
        share=0.8,
        scanner=Scanner(manufacturer="Mock Radiology", model_name="MR-Wall", aspect=0.84, sharpness=1.0, ap_rate=0.05),
        device=EcgDevice(cart_id_first=9_040_000, muscle_mv=0.008, mains_mv=0.005),
        style=WritingStyle(manner="plain", order=("heart", "pleura", "lungs", "bones", "devices")),
        case_mix={"Support Devices": 0.6, "Edema": 0.7, "Pneumothorax": 0.7, "STTC": 1.2, "HYP": 1.2},
        missing_xray=0.15,
    ),
)


def resolve_hospitals(hospitals: Hospitals) -> tuple[HospitalProfile, ...]:
    """The profiles meant by a configuration: the given ones, built-in ones by name, or the first N built-in ones.

    Past the eighth, the built-in profiles repeat under new names (``academic-2``) with carts of their own. Raises
    `ConfigError` for a name that no built-in profile has.
    """
    if isinstance(hospitals, int):
        return tuple(_numbered(index) for index in range(hospitals))
    known = {profile.name: profile for profile in BUILT_IN}
    unknown = [name for name in hospitals if isinstance(name, str) and name not in known]
    if unknown:
        raise ConfigError("synthetic hospitals", [f"{name!r} is none of {', '.join(known)}" for name in unknown])
    return tuple(known[item] if isinstance(item, str) else item for item in hospitals)


def _numbered(index: int) -> HospitalProfile:
    lap, place = divmod(index, len(BUILT_IN))
    profile = BUILT_IN[place]
    if lap == 0:
        return profile
    device = profile.device.model_copy(update={"cart_id_first": profile.device.cart_id_first + 1000 * lap})
    return profile.model_copy(update={"name": f"{profile.name}-{lap + 1}", "device": device})


def deal_patients(profiles: tuple[HospitalProfile, ...], patients: int) -> list[int]:
    """Which profile (by place in the list) each patient belongs to, in proportion to ``share``.

    Smooth weighted round robin: the place of patient i depends on i and the profiles only, never on the total, so a
    larger cohort leaves every earlier patient where it was.
    """
    total = sum(profile.share for profile in profiles)
    credit = [0.0] * len(profiles)
    dealt: list[int] = []
    for _ in range(patients):
        credit = [have + profile.share for have, profile in zip(credit, profiles, strict=True)]
        winner = max(range(len(profiles)), key=lambda place: credit[place])
        credit[winner] -= total
        dealt.append(winner)
    return dealt


def cohort_digest(config: SynthConfig) -> str:
    """Hex SHA-256 over the configuration with its hospitals spelled out, and the generator's version."""
    facts = config.model_dump(mode="json")
    facts["hospitals"] = [profile.model_dump(mode="json") for profile in resolve_hospitals(config.hospitals)]
    facts["generator_version"] = GENERATOR_VERSION
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
