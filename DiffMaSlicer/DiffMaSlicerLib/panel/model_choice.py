"""What can be chosen as a model: what is installed, and what could be; no widgets."""

from slicer.i18n import tr as _

from DiffMaSlicerLib.panel.bindings import Entry

SIZES = tuple(f"{size}/{patch}" for size in ("S", "B", "L", "XL", "XXL") for patch in (2, 4, 7))
DEMO = "DEMO"
_CONTRASTS = ("T1", "T2", "FLAIR")
_ORDER = {"installed": 0, "downloadable": 1, "importable": 2, "none": 3}


class Models:
    """Every model that the child knows of.

    Args:
        machine: the child's facts (``models`` and ``catalogue``), or None while they are not there.
    """

    def __init__(self, machine=None):
        self.known = machine is not None
        machine = machine or {}
        installed = [{**entry, "state": "installed"} for entry in machine.get("models", ())]
        names = {entry["name"] for entry in installed}
        others = [entry for entry in machine.get("catalogue", ()) if entry["name"] not in names]
        self.all = sorted(installed + others, key=lambda entry: _ORDER[entry["state"]])

    def named(self, name):
        """The model of this name, or None."""
        return next((entry for entry in self.all if entry["name"] == name), None)

    def matching(self, anatomy="", size=""):
        """Models of an anatomy and a size; an empty one means any."""
        return [entry for entry in self.all if anatomy in ("", entry["anatomy"]) and size in ("", sizeOf(entry))]

    def anatomies(self):
        """Entries of the list of anatomies."""
        names = sorted({entry["anatomy"] for entry in self.all if entry["anatomy"]})
        return [Entry("", _("Any")), *(Entry(name, name) for name in names)]

    def sizes(self, anatomy=""):
        """Entries of the list of sizes, what can be used first: those of installed models and the paper's fifteen."""
        others = [sizeOf(entry) for entry in self.all if sizeOf(entry) not in SIZES]
        sizes = sorted((*dict.fromkeys(others), *SIZES), key=lambda size: _ORDER[self._state(size, anatomy)])
        return [Entry("", _("Any size")), *(self._size(size, anatomy) for size in sizes)]

    def models(self, anatomy="", size="", chosen=""):
        """Entries of the list of models: one a family, which stands for the chosen model or its contrast if it can."""
        families: dict[str, list] = {}
        for entry in self.matching(anatomy, size):
            families.setdefault(_family(entry), []).append(entry)
        contrast = contrastOf(self.named(chosen) or {})
        rows = [_member(entries, chosen, contrast) for entries in families.values()]
        return [Entry(entry["name"], _model(entry), entry.get("how") or entry["title"]) for entry in rows]

    def contrasts(self, name):
        """Entries of the list of contrasts: the installed models of a model's family; none where there is one alone."""
        entry = self.named(name)
        family = [other for other in self.all if entry is not None and _family(other) == _family(entry)]
        if len(family) < 2:
            return []
        names = [contrastOf(other) for other in family]
        alike = {text for text in names if names.count(text) > 1}
        family.sort(key=lambda other: (_rank(other), other["title"]))
        return [Entry(other["name"], _contrast(other, alike), other["title"]) for other in family]

    def advice(self, name, anatomy="", size=""):
        """A sentence on the chosen model or how to get it, and whether it can convert now."""
        entry = self.named(name)
        if not self.known:
            return "", True
        if entry is None:
            if name:
                return _("The model {name} is not on this machine. Import it, or choose another.").format(
                    name=name
                ), False
            what = " ".join(part for part in (anatomy, size) if part)
            return _(
                "There are no weights for {what} yet. Import your own (a bundle or the authors' files), or train them."
            ).format(what=what), False
        if entry["state"] != "installed":
            return entry.get("how", ""), False
        if entry.get("problem"):
            return entry["problem"], False
        if entry.get("missing"):
            missing = ", ".join(entry["missing"])
            return _("This model lacks {missing}. Import it again with these parts.").format(missing=missing), False
        facts = {"anatomy": entry["anatomy"] or _("any part of the body"), "size": entry["size"]}
        if entry.get("demo"):
            return _(
                "DEMO, for {anatomy}: trained on rendered heads and on no patient's scan, it shows how it works."
            ).format(**facts), True
        return _("Installed, for {anatomy}, size {size}.").format(**facts), True

    def _state(self, size, anatomy):
        entries = self.matching(anatomy, size)
        return entries[0]["state"] if entries else "none"

    def _size(self, size, anatomy):
        state = self._state(size, anatomy)
        words = {
            "installed": _("{size}, installed"),
            "downloadable": _("{size}, to download"),
            "importable": _("{size}, to import"),
            "none": _("{size}, no weights yet"),
        }
        return Entry(size, words[state].format(size=size))


def sizeOf(entry):
    """The size under which a model is listed: of the fifteen, or DEMO, or what it says itself."""
    return DEMO if entry.get("demo") else entry["size"].split(",")[0].strip()


def contrastOf(entry):
    """The contrast that a model makes, such as T2; empty where nobody knows."""
    return entry.get("target_modality", "").removeprefix("MR ")


def _family(entry):
    """What models have in common that differ in their contrast alone; a model of no family is one by itself."""
    if entry["state"] != "installed" or not entry.get("family"):
        return entry["name"]
    return entry["family"], entry["anatomy"], entry.get("source_modality")


def _member(entries, chosen, contrast):
    """The model of a family that stands for it: the chosen one, else one of its contrast, else the first."""
    same = [entry for entry in entries if entry["name"] == chosen]
    return (same or [entry for entry in entries if contrastOf(entry) == contrast] or entries)[0]


def _rank(entry):
    contrast = contrastOf(entry)
    return _CONTRASTS.index(contrast) if contrast in _CONTRASTS else len(_CONTRASTS)


def _contrast(entry, alike):
    contrast = contrastOf(entry)
    return f"{contrast}, {entry['title']}" if contrast in alike else contrast


def _model(entry):
    if entry["state"] == "installed":
        return entry["title"]
    if entry["state"] == "downloadable":
        return _("{title} (to download)").format(title=entry["title"])
    return _("{title} (to import)").format(title=entry["title"])
