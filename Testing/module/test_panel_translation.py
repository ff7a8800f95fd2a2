"""Every word that the module itself shows can be translated: it goes through ``slicer.i18n`` as one plain literal.

The rule, read from the source: a literal of two words or more is in ``_()``, unless it is a docstring, goes to a log,
or stands below with the reason; so is every literal with a word in it, even one alone, that is given to what the user
reads. A key that is the English of a translated text of its file is none itself. What the child says (its errors,
warnings and notes) is DiffMaCore's own and English, as docs/slicer.md says.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "DiffMaSlicer"
SOURCES = sorted(path for path in MODULE.rglob("*.py") if path.name != "selftest.py")  # which only developers run
TRANSLATING = {"_", "translate"}
LOGGING = {"say", "exception", "debug", "warning", "compile", "sub", "fullmatch", "search"}  # and patterns
"""Calls whose words are English: the log, which is copied into reports beside the child's words, and patterns."""

READ = {"JobError", "Failure", "Choice", "Entry", "setText", "warn", "info", "error", "setToolTip", "setWindowTitle"}
SHOWN = {"text", "toolTip", "windowTitle", "stage", "detail", "placeholderText", "helpText", "title"}
KINDS = re.compile(r"[A-Z][a-z]+([A-Z][a-z]+)*|[a-z0-9+./-]*|Alt\+\d")
"""Identifiers: kinds of errors, names of choices, keys."""

NOT_SHOWN = {
    "; install it": "a mark in what the child says",
    "|one step": "a key of the file of measured runs",
    "DiffMa region": "a node that is gone before anyone sees it",
    "DiffMa uncertainty": "the name by which a colour node is found again in a saved scene",
    "DiffMa soft mask": "the same",
    "DiffMa difference": "the same",
    "soft mask": "an attribute of a node, which scripts and other scenes read",
    "being made": "the same",
    "(input {})": "stands in the log for a patient's name",
    "(output folder)": "the same",
    "{} of {} slices": "the same",
    "SYNTHETIC IMAGE. Research only: not for diagnosis or treatment planning.": "the same; it also goes into DICOM",
    "no float32 volume": "becomes a reason in brackets, as the system's own",
    "The DiffMaSlicer team": "a name",
    "{}() has no argument {}; {}": "a TypeError, for whoever writes a script",
    "did you mean {}?": "the same",
    "there are {}": "the same",
}
FORMAT = re.compile(r"[<|>]|^[\d a-f]+$|\*\.|^(space|kinds|encoding|endian)[ :]|\w x \w|^ x $|^diffma|^DiffMaSlicer/")
"""Mark-up, colours, patterns of file names, NRRD's header."""


def is_call_of(node: ast.AST, names: set[str]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    return getattr(node.func, "attr", getattr(node.func, "id", "")) in names


def words(node: ast.AST) -> str | None:
    """The words of a literal, with {} for what an f-string puts in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def literals(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Line, words, and whether the literal is given to what the user reads, of all outside ``_()`` and logs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if is_call_of(node, TRANSLATING | LOGGING) and not _is_message(node):
            continue
        text = words(node)
        if text is not None:
            yield node.lineno, text, False
            for value in getattr(node, "values", ()):
                yield from literals(value) if isinstance(value, ast.FormattedValue) else ()
            continue
        shown = [*node.args] if is_call_of(node, READ) else []
        if isinstance(node, ast.Assign) and any(getattr(target, "attr", "") in SHOWN for target in node.targets):
            shown.append(node.value)
        for value in shown:
            if (text := words(value)) is not None:
                yield value.lineno, text, True
        yield from literals(node)


def _is_message(node: ast.Call) -> bool:
    """Whether ``warning`` is the panel's and not a logger's."""
    return "messages" in ast.unparse(node.func)


def untranslated(source: str) -> list[str]:
    found, tree = [], ast.parse(source)
    known = {words(given) for node in ast.walk(tree) if is_call_of(node, TRANSLATING) for given in node.args}
    for line, text, shown in literals(tree):
        plain = text.replace("{}", "")
        several = re.search(r"[A-Za-z]\W* \W*[A-Za-z]|[a-z] $|^ [a-z]|[a-z]{3,} \{\}|\{\} [a-z]{3,}", text)
        alone = shown and re.search(r"[A-Za-z]{2,}", plain) and not KINDS.fullmatch(plain)
        if (several or alone) and text not in {*known, *NOT_SHOWN} and not FORMAT.search(text):
            found.append(f"{line}: {text}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(MODULE).as_posix())
def test_every_text_of_the_source_can_be_translated(path: Path) -> None:
    assert untranslated(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise JobError("no folder is chosen", "OutputError", _("Choose one."))', ["no folder is chosen"]),
        ('self.detail = f"slice {done} of {total}"', ["slice {} of {}"]),
        ('label.text = "Ready."', ["Ready."]),
        ('self.messages.warning("It is old.")', ["It is old."]),
        ("f\"{name} {_('soft')} {len('two words')}\"", ["two words"]),
        (
            'def f():\n    """Two words."""\n    logging.warning("two words")\n    x = _("Two words {n}").format(n=1)',
            [],
        ),
    ],
)
def test_the_rule_finds_what_it_should(source: str, found: list[str]) -> None:
    assert sorted({text.split(": ", 1)[1] for text in untranslated(source)}) == sorted(found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(MODULE).as_posix())
def test_what_is_translated_is_one_plain_literal(path: Path) -> None:
    """``lupdate`` reads the source: it finds no f-string, no variable and no sum of strings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if is_call_of(node, TRANSLATING):
            assert all(isinstance(given, ast.Constant) and isinstance(given.value, str) for given in node.args)


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.ui")), ids=lambda path: path.name)
def test_the_forms_keep_only_names_from_translation(path: Path) -> None:
    hidden = [e.text or "" for e in ElementTree.parse(path).iter("string") if e.get("notr") == "true"]
    assert [text for text in hidden if not re.fullmatch(r"[a-z][A-Za-z-]*(: #[0-9a-f]{6})?", text)] == []


def test_the_childs_words_for_its_stages_are_all_known() -> None:
    from DiffMaSlicerLib.jobs.child_job import stages

    told = {"downloading"}  # the first word of what the hub tells
    for path in [*(ROOT / "DiffMaCore" / "cli").glob("*.py"), *(ROOT / "DiffMaCore" / "inference").glob("*.py")]:
        told |= set(re.findall(r'\.stage\("([^"]+)"', path.read_text(encoding="utf-8")))
    assert told == set(stages())


def test_another_language_is_heard_everywhere(monkeypatch: pytest.MonkeyPatch, slicer_host) -> None:
    """Every text of what a job says of itself goes through the translation of the moment."""
    import sys

    from DiffMaSlicerLib.child import failures
    from DiffMaSlicerLib.jobs import history, job
    from DiffMaSlicerLib.mrml import facts

    for name, module in list(sys.modules.items()):
        if name.startswith("DiffMaSlicerLib") and hasattr(module, "_"):
            monkeypatch.setattr(module, "_", lambda text: f"[{text}]")
    assert facts.describe(None).problem == "[No volume is chosen.]"
    assert failures.ended(3, ["last"], True, "python").message.startswith("[the model's program ended")
    assert history.words_for_seconds(5) == "[5 s]"

    class Broken(job.Job):
        def steps(self):
            raise ValueError("oops")
            yield

    broken = Broken("x")
    job.JobRunner().wait(broken)
    assert broken.error.remedy == "[Copy the log and report it.]"
