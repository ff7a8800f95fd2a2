"""How a synthetic image was made, as attributes of its node: they are saved with the scene."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

PREFIX = "DiffMa."
CT_ROLE = "DiffMa.ct"
UNCERTAINTY_ROLE = "DiffMa.uncertainty"
SOFT_MASK_ROLE = "DiffMa.softMask"
DIFFERENCE_ROLE = "DiffMa.difference"
TRUE_ROLE = "DiffMa.true"

NOTICE = "SYNTHETIC IMAGE. Research only: not for diagnosis or treatment planning."

_FROM_RESULT = {
    "notice": "notice",
    "model": "model",
    "modelTitle": "model_title",
    "modelSize": "model_size",
    "modelChecksum": "model_sha256",
    "targetModality": "target_modality",
    "units": "output_units",
    "mode": "mode",
    "steps": "steps",
    "scheduler": "scheduler",
    "seed": "seed",
    "samples": "samples",
    "uncertaintyOf": "uncertainty_of",
    "decoder": "decoder",
    "training": "training_words",
    "agreement": "agreement_words",
    "device": "device",
    "scanBackend": "scan_backend",
    "precision": "precision",
    "scanOrder": "scan_order",
    "software": "software",
}


def write_provenance(
    node: Any, result: Mapping[str, Any], *, ct: Any = None, content: str = "", partial: str = ""
) -> None:
    """Set the attributes of a node that a conversion made; older ones of ours are taken away.

    Args:
        node: volume node.
        result: facts of the child's result.
        ct: the CT it was made from; becomes a node reference.
        content: what the node holds if it is not the MR itself, such as "uncertainty".
        partial: how much is there, where the run was cancelled and kept.
    """
    for name in list(node.GetAttributeNames() or ()):
        if name.startswith(PREFIX):
            node.RemoveAttribute(name)
    facts = {name: result[key] for name, key in _FROM_RESULT.items() if result.get(key) is not None}
    facts = {"notice": NOTICE, **facts, "synthetic": 1, "content": content, "partial": partial}
    facts["date"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    for name, value in facts.items():
        if str(value):
            node.SetAttribute(PREFIX + name, str(value))
    if ct is not None:
        node.SetNodeReferenceID(CT_ROLE, ct.GetID())


def read_provenance(node: Any) -> dict[str, str]:
    """The attributes of ours on ``node``, without the prefix; {} for an image that is not synthetic."""
    names = [name for name in (node.GetAttributeNames() or ()) if name.startswith(PREFIX)]
    return {name[len(PREFIX) :]: node.GetAttribute(name) for name in names}


def is_demo(node: Any) -> bool:
    """Whether a demo model made the image: the bundled one, or one whose title says so, as those of its family do."""
    facts = read_provenance(node)
    return facts.get("model") == "demo" or "DEMO" in facts.get("modelTitle", "")


def as_metadata(node: Any) -> dict[str, str]:
    """The same under the names that DiffMaCore uses, for a DICOM export."""
    facts = read_provenance(node)
    return {key: facts[name] for name, key in _FROM_RESULT.items() if name in facts}
