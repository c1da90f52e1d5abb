"""Which DICOM images count as a chest radiograph.

Accepted modalities: CR, DX and RG (plain radiography in DICOM) and DR (not a defined term, but written by real
devices). Everything else is refused, RF and XA included: they are fluoroscopy and angiography. A body part is refused
when it is one of DICOM's terms for another region and the text does not also speak of the chest; an empty or unknown
one is accepted, because many devices leave it blank or write their own language into it.
"""

from __future__ import annotations

import re
from typing import Final

from more_model.errors import InputRefused

RADIOGRAPH_MODALITIES: Final = frozenset({"CR", "DX", "DR", "RG"})

_CHEST = re.compile(r"CHEST|THORA|T[OÓ]RA[XC]|THX|LUNG|PULM|POUMON|STERN|RIB")
# Terms for other regions of DICOM PS3.16 Annex L, "Correspondence of Anatomic Region Codes and Body Part Examined".
_ELSEWHERE = re.compile(
    r"\b(?:"
    r"ABDOMEN|ABDOMENPELVIS|ANKLE|ANUS|ARM|BLADDER|BRAIN|BREAST|BUTTOCK|CALCANEUS|CALF|CAROTID|CEREBELLUM|"
    r"CERVIX|CHEEK|COCCYX|COLON|CSPINE|DUODENUM|EAR|ELBOW|EXTREMITY|EYE|EYELID|FACE|FEMUR|FINGER|FOOT|"
    r"FOREARM|FOREFOOT|FOREHEAD|GALLBLADDER|HAND|HEAD|HEADNECK|HIP|HUMERUS|ILEUM|ILIUM|INTESTINE|JAW|"
    r"JEJUNUM|KIDNEY|KNEE|LARYNX|LEG|LIVER|LOWERLEG|LSPINE|LSSPINE|LUMBAR|MANDIBLE|MAXILLA|MOUTH|NECK|NOSE|"
    r"ORBIT|OVARY|PANCREAS|PAROTID|PATELLA|PELVIS|PENIS|PHARYNX|PROSTATE|RADIUS|RADIUSULNA|RECTUM|SACRUM|"
    r"SCALP|SCROTUM|SKULL|SPINE|SPLEEN|STOMACH|TESTIS|THIGH|THUMB|THYROID|TIBIA|TIBIAFIBULA|TLSPINE|TOE|"
    r"TONGUE|ULNA|URETER|URETHRA|UTERUS|VAGINA|VULVA|WHOLEBODY|WRIST|ZYGOMA"
    r")\b"
)


def known_body_part(text: str) -> str:
    """``text`` reduced to a word that cannot identify anyone: CHEST, a DICOM term for another region, or "other"."""
    if not text:
        return ""
    if _CHEST.search(text):
        return "CHEST"
    return _elsewhere(text) or "other"


def _elsewhere(text: str) -> str:
    # The second try joins "WHOLE BODY" and "C-SPINE" to the terms of the standard.
    found = _ELSEWHERE.search(text) or _ELSEWHERE.fullmatch(re.sub(r"[^A-Z]", "", text))
    return found[0] if found else ""


def check_radiograph(modality: str, body_part: str, *, allow_unknown_modality: bool = False) -> None:
    """Raises `InputRefused` ("unknown-modality", "not-a-radiograph", "not-a-chest") unless this can be a chest X-ray.

    Both arguments are upper-case header values, empty where absent.
    """
    if not modality and not allow_unknown_modality:
        raise InputRefused(
            "unknown-modality",
            "The header does not say which modality made this image.",
            remedy="allow unknown modalities for this source if it is known to hold radiographs only",
        )
    if modality and modality not in RADIOGRAPH_MODALITIES:
        shown = modality if len(modality) <= 16 and modality.isalnum() else "other"
        accepted = ", ".join(sorted(RADIOGRAPH_MODALITIES))
        raise InputRefused("not-a-radiograph", f"The modality is {shown}; chest X-rays are one of {accepted}.")
    if body_part and not _CHEST.search(body_part) and _elsewhere(body_part):
        raise InputRefused("not-a-chest", f"The body part is {_elsewhere(body_part)}, not the chest.")
