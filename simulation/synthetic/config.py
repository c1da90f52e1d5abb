"""Settings of a synthetic cohort: how many patients, which hospitals, how hard the task is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simulation.synthetic.findings import DRAWN

#: Raised by hand whenever the generator draws or writes something else for the same configuration.
GENERATOR_VERSION = 1

#: Subject ids are eight digits and start with 1, as in MIMIC.
FIRST_SUBJECT = 10_000_000
LAST_SUBJECT = 19_999_999

MAX_VISITS = 8

#: Room kept for the visits of one patient when study ids are dealt out. Nine, because ids are dealt modulo ten million
#: and nine times a whole number of millions is never a multiple of that: cohorts whose first subject ids are whole
#: millions apart share no study id either (up to 111,111 patients each).
VISIT_STRIDE = 9


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scanner(_Settings):
    """How one hospital's X-ray machine renders a chest."""

    manufacturer: str = "Synthetic Imaging"
    model_name: str = "SI-1"
    modality: Literal["CR", "DX"] = "DX"
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    aspect: float = Field(default=1.0, ge=0.5, le=2.0, description="width divided by height")
    gamma: float = Field(default=1.0, gt=0.2, lt=5.0)
    contrast: float = Field(default=1.0, gt=0.1, lt=3.0)
    sharpness: float = Field(default=0.8, gt=0.1, le=1.0, description="share of the drawn resolution that survives")
    noise: float = Field(default=0.02, ge=0.0, lt=0.5, description="standard deviation, in full-scale units")
    collimation: float = Field(default=0.0, ge=0.0, lt=0.2, description="unexposed border, as a share of the width")
    marker: str = Field(default="L", max_length=12)
    ap_rate: float = Field(default=0.5, ge=0.0, le=1.0, description="share of antero-posterior (bedside) films")


class EcgDevice(_Settings):
    """How one hospital's ECG carts record."""

    cart_id_first: int = 6_848_000
    cart_count: int = Field(default=20, ge=1)
    mains_hz: float = 60.0
    mains_mv: float = Field(default=0.01, ge=0.0)
    wander_mv: float = Field(default=0.08, ge=0.0)
    muscle_mv: float = Field(default=0.015, ge=0.0)
    bandwidth: str = "0.005-150 Hz"
    filtering: str = "60 Hz notch Baseline filter"


class WritingStyle(_Settings):
    """How one hospital's radiologists and ECG carts word what they see."""

    manner: Literal["terse", "plain", "verbose"] = "plain"
    order: tuple[Literal["devices", "lungs", "pleura", "heart", "bones"], ...] = (
        "devices",
        "lungs",
        "pleura",
        "heart",
        "bones",
    )
    negation_rate: float = Field(default=0.5, ge=0.0, le=1.0, description="share of absent findings that are negated")
    no_findings_rate: float = Field(default=0.1, ge=0.0, le=0.5, description="reports without a FINDINGS section")
    no_impression_rate: float = Field(default=0.1, ge=0.0, le=0.5, description="reports without an IMPRESSION section")
    addendum_rate: float = Field(default=0.03, ge=0.0, le=1.0)

    @field_validator("order")
    @classmethod
    def _every_group_once(cls, order: tuple[str, ...]) -> tuple[str, ...]:
        if sorted(order) != ["bones", "devices", "heart", "lungs", "pleura"]:
            raise ValueError("order must name devices, lungs, pleura, heart and bones once each")
        return order


class HospitalProfile(_Settings):
    """One hospital: machines, writing, case mix, and which studies it tends not to have."""

    name: str = Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_-]*$")
    share: float = Field(default=1.0, gt=0.0, le=100.0, description="relative number of patients")
    scanner: Scanner = Scanner()
    device: EcgDevice = EcgDevice()
    style: WritingStyle = WritingStyle()
    case_mix: dict[str, float] = Field(default_factory=dict, description="finding -> factor on its usual prevalence")
    missing_xray: float = Field(default=0.05, ge=0.0, le=1.0)
    missing_ecg: float = Field(default=0.05, ge=0.0, le=1.0)
    missing_report: float = Field(default=0.0, ge=0.0, le=1.0)

    @field_validator("case_mix")
    @classmethod
    def _known_findings(cls, case_mix: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(case_mix) - set(DRAWN))
        if unknown:
            raise ValueError(f"unknown finding(s) {unknown}; known are {list(DRAWN)}")
        if any(not 0.0 <= factor <= 4.0 for factor in case_mix.values()):
            raise ValueError("factors must lie between 0 and 4")
        return case_mix

    @model_validator(mode="after")
    def _has_something(self) -> HospitalProfile:
        if self.missing_xray == 1.0 and self.missing_ecg == 1.0:
            raise ValueError(f"hospital {self.name} would have neither X-rays nor ECGs")
        return self


class Difficulty(_Settings):
    """What separates an easy cohort from a hard one."""

    contrast: float = Field(default=1.0, ge=0.0, le=3.0, description="strength of findings in the picture")
    ecg_contrast: float = Field(default=1.0, ge=0.0, le=3.0, description="strength of findings in the tracing")
    label_noise: float = Field(default=0.02, ge=0.0, le=0.5, description="chance that a reader misses a finding")
    nuisance: float = Field(default=1.0, ge=0.0, le=3.0, description="anatomical variety, film and tracing noise")
    uncertain_rate: float = Field(default=0.05, ge=0.0, le=1.0, description="share of positives that are hedged (-1)")
    blank_rate: float = Field(default=0.05, ge=0.0, le=1.0, description="share of unmentioned negatives left blank")
    blank_study_rate: float = Field(default=0.01, ge=0.0, le=1.0, description="studies without any label")


Hospitals = int | tuple[str, ...] | tuple[HospitalProfile, ...]


class SynthConfig(_Settings):
    """A whole synthetic cohort. The same configuration always gives the same bytes.

    Patients are numbered upwards from ``first_subject_id``; two cohorts share no patient when their ranges do not
    overlap. A patient's data depend on ``seed``, the subject id and the hospital list only, so a larger cohort holds
    the smaller one.
    """

    patients: int = Field(ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0)
    hospitals: Hospitals = Field(
        default=4, description="the first N built-in profiles, built-in ones by name, or profiles of one's own"
    )
    first_subject_id: int = Field(default=FIRST_SUBJECT, ge=FIRST_SUBJECT, le=LAST_SUBJECT)
    image_px: int = Field(default=256, ge=32, le=2048, description="longer side of a picture")
    jpg: bool = True
    dicom: bool = False
    ecg: bool = True
    max_visits: int = Field(default=2, ge=1, le=MAX_VISITS, description="visits per patient, at most")
    extra_visit_rate: float = Field(default=0.15, ge=0.0, le=1.0, description="chance of each further visit")
    lateral_rate: float = Field(default=0.05, ge=0.0, le=1.0, description="visits with an extra lateral view")
    far_ecg_rate: float = Field(default=0.05, ge=0.0, le=1.0, description="ECGs more than 60 days from the X-ray")
    bad_sample_rate: float = Field(default=0.01, ge=0.0, le=1.0, description="ECGs with a short run of missing samples")
    missing_xray: float | None = Field(default=None, ge=0.0, le=1.0, description="instead of every profile's own rate")
    missing_ecg: float | None = Field(default=None, ge=0.0, le=1.0)
    missing_report: float | None = Field(default=None, ge=0.0, le=1.0)
    difficulty: Difficulty = Difficulty()

    @field_validator("hospitals")
    @classmethod
    def _some_hospitals(cls, hospitals: Hospitals) -> Hospitals:
        if isinstance(hospitals, int):
            if not 1 <= hospitals <= 1000:
                raise ValueError("between 1 and 1000 hospitals")
            return hospitals
        names = [profile if isinstance(profile, str) else profile.name for profile in hospitals]
        if not names or len(set(names)) != len(names):
            raise ValueError("hospital names must be given and unique")
        return hospitals

    @model_validator(mode="after")
    def _writable(self) -> SynthConfig:
        if self.first_subject_id + self.patients - 1 > LAST_SUBJECT:
            raise ValueError(f"subject ids would pass {LAST_SUBJECT}")
        if not (self.jpg or self.dicom or self.ecg):
            raise ValueError("at least one of jpg, dicom and ecg must be on")
        if self.missing_xray == 1.0 and self.missing_ecg == 1.0:
            raise ValueError("missing_xray and missing_ecg cannot both be 1")
        return self
