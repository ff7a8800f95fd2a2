"""A template of ``data/reports`` and its values in, Markdown out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def report(template: str, **values: Any) -> str:
    """The text of a template (Jinja2), in which every value must be given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    form: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    loader = FileSystemLoader(Path(__file__).parent / "data" / "reports")
    return Environment(loader=loader, undefined=StrictUndefined, **form).get_template(template).render(values)


def rows_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([text.replace("|", "\\|") for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
