"""What names of patients and files tell: the part of the body, and the centre."""

from __future__ import annotations

import re

_SYNTHRAD = re.compile(
    r"(?<![A-Za-z0-9])[12](AB|HN|TH|B|P)([A-Z])\d{3}(?![A-Za-z0-9])"
)  # 1BA001 (2023), 1ABA005 (2025)
_ANATOMIES = {"B": "brain", "P": "pelvis", "AB": "abdomen", "HN": "head neck", "TH": "thorax"}


def synthrad_id(text: str) -> str | None:
    """The SynthRAD patient that ``text`` names, such as 1BA001, if it names one."""
    found = _SYNTHRAD.search(text.replace("_", " "))
    return found.group(0) if found else None


def centre_of(case_id: str) -> str:
    """The centre letter of a SynthRAD patient (A, B, C, ...); "" for any other name."""
    found = _SYNTHRAD.search(case_id)
    return found.group(2) if found else ""


def of_anatomy(name: str, anatomy: str) -> bool:
    """Whether a case may be of the ``anatomy`` an experiment is about: False only where its name says another.

    SynthRAD patients (1BA001: brain) and names that begin with a part of the body (pelvis_11) say it.
    """
    wanted = _plain(anatomy)
    if wanted not in _ANATOMIES.values():
        return True
    found = _SYNTHRAD.search(name)
    if found:
        return _ANATOMIES[found.group(1)] == wanted
    said = [known for known in _ANATOMIES.values() if re.match(rf"{known}(?![a-z])", _plain(name))]
    return not said or wanted in said


def _plain(text: str) -> str:
    words = re.split(r"[\s_\-]+", text.lower())
    return " ".join(word for word in words if word != "and")
