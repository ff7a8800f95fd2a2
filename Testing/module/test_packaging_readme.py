"""What README and guide say about the module is so: error texts, keys, purpose."""

from __future__ import annotations

import ast
import re

from cmake_lists import REPOSITORY

GUIDE = REPOSITORY / "docs" / "slicer.md"
READMES = (REPOSITORY / "README.md", GUIDE)


def rows(section: str) -> list[list[str]]:
    """Cells of the first table under a heading of the guide."""
    text = GUIDE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def texts_of(folder: str) -> str:
    """Every piece of text in the Python files, strings of several lines joined as Python joins them."""
    found = []
    for path in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_troubleshooting_quotes_texts_of_the_code() -> None:
    texts = texts_of("DiffMaSlicer") + texts_of("DiffMaCore")
    quoted = [row[0].strip("`") for row in rows("Troubleshooting")]
    assert len(quoted) > 10
    assert [quote for quote in quoted if quote not in texts] == []


def test_keys_are_those_of_the_panel() -> None:
    said = {row[0] for row in rows("Layouts and keys")}
    used = set(
        re.findall(
            r'"((?:Alt|Ctrl)\+\w+)"', "".join(path.read_text() for path in (REPOSITORY / "DiffMaSlicer").rglob("*.py"))
        )
    )
    assert said == used


def test_both_readmes_say_research_only_and_call_the_demo_by_its_name() -> None:
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        assert "Research only" in text and "demo" in text.lower()


def test_main_readme_opens_with_a_purpose_of_two_sentences() -> None:
    text = READMES[0].read_text(encoding="utf-8")
    paragraph = next(part for part in text.split("\n\n") if part.startswith("DiffMaSlicer turns"))
    assert len(re.findall(r"[.](?:\s|$)", paragraph)) == 2


def test_the_picture_of_the_panel_shows_the_controls_that_it_has() -> None:
    from Testing.review_pictures import CONTROLS, controls

    assert CONTROLS.read_text(encoding="utf-8").split() == controls(), "python -m Testing.review_pictures draws it anew"
