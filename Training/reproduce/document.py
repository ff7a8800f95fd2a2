"""Sections of texts, tables and pictures in, the report as Markdown out; ``page`` makes HTML of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from DiffMaCore.reports import rows_of

Cell = str | tuple[str, str]
"""A text, or a text and what stands small behind it."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """``head`` over ``rows``; ``strong`` rows stand out, ``faint`` ones stand back."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    strong: Sequence[int] = ()
    faint: Sequence[int] = ()


@dataclass(frozen=True)
class Picture:
    """A file below the report's folder, by its relative name."""

    file: str
    title: str


@dataclass(frozen=True)
class Folded:
    """A long text that is opened on demand."""

    title: str
    text: str


Block = Text | Table | Picture | Folded


@dataclass(frozen=True)
class Section:
    """One part of the report; ``missing`` says why there is nothing, or not everything, to show."""

    key: str
    title: str
    blocks: Sequence[Block] = ()
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class Document:
    """``lead`` stands below the title; ``foot`` at the end."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]
    foot: str
    facts: dict[str, object] = field(default_factory=dict)


def to_markdown(document: Document) -> str:
    """The report as Markdown with relative pictures."""
    parts = [f"# {document.title}", *document.lead]
    for section in document.sections:
        parts += [f"## {section.title}", *(f"*Missing: {reason}*" for reason in section.missing)]
        parts += [_markdown(block) for block in section.blocks]
    return "\n\n".join([*parts, document.foot]) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Picture):
        return f"![{block.title}]({block.file})\n\n*{block.title}*"
    if isinstance(block, Folded):
        return f"<details><summary>{block.title}</summary>\n\n```\n{block.text}\n```\n\n</details>"
    lines = []
    for number, row in enumerate(block.rows):
        cells = [_plain(cell) for cell in row]
        lines.append([f"**{cell}**" if cell and number in block.strong else cell for cell in cells])
    return rows_of(block.head, lines)


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else f"{cell[0]} {cell[1]}".strip()
