"""A report's sections in, one HTML page out."""

from __future__ import annotations

import re
from html import escape

from Training.reproduce.document import Block, Cell, Document, Folded, Picture, Section, Text

_STYLE = """\
:root { --ink: #1e293b; --quiet: #64748b; --line: #e2e8f0; --accent: #c2410c; --paper: #fff; --back: #f8fafc; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header, main, footer { max-width: 1320px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 44px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .6rem; letter-spacing: -.015em; }
header p { max-width: 75ch; margin: .3rem 0; color: var(--quiet); }
nav { display: flex; flex-wrap: wrap; gap: 6px 8px; margin: 22px 0 6px; }
nav a { color: var(--ink); background: var(--paper); border: 1px solid var(--line); border-radius: 999px;
  padding: 3px 13px; font-size: .84rem; text-decoration: none; }
nav a:hover { border-color: var(--accent); color: var(--accent); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px;
  margin: 22px 0; padding: 8px 28px 22px; }
h2 { font-size: 1.3rem; letter-spacing: -.01em; margin: 1rem 0 .5rem; }
section p { max-width: 85ch; margin: .6rem 0; }
p.missing { background: #fff7ed; border-left: 3px solid var(--accent); padding: 8px 14px; max-width: none; }
.table { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: var(--quiet); padding: 6px 8px; border-bottom: 2px solid var(--line);
  vertical-align: bottom; line-height: 1.3; }
td { text-align: right; padding: 6px 8px; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
td:nth-child(2) { white-space: normal; }
td small { display: block; color: var(--quiet); font-size: .78rem; font-weight: 400; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
tbody tr:hover { background: var(--back); }
tr.strong td { font-weight: 650; background: #fff7ed; }
tr.faint td { color: var(--quiet); }
figure { margin: 18px 0; }
img { max-width: 100%; height: auto; display: block; border-radius: 6px; }
figcaption { color: var(--quiet); font-size: .86rem; margin-top: 8px; max-width: 95ch; }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--quiet); font-size: .9rem; }
pre { background: var(--back); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; overflow-x: auto;
  font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--line); border-radius: 4px;
  padding: 1px 5px; }
footer { color: var(--quiet); font-size: .84rem; padding-bottom: 44px; }
@media print { body { background: #fff; } nav { display: none; }
  section { border: 0; break-inside: avoid-page; padding: 0; } }
"""


def to_html(document: Document) -> str:
    """The report as one page that needs nothing but the pictures in its folder."""
    contents = "".join(f'<a href="#{s.key}">{escape(s.title.split(":")[0])}</a>' for s in document.sections)
    sections = "\n".join(_section(section) for section in document.sections)
    lead = "\n".join(f"<p>{_inline(line)}</p>" for line in document.lead)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(document.title)}</title>
<style>
{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(document.title)}</h1>
{lead}
<nav>{contents}</nav>
</header>
<main>
{sections}
</main>
<footer><p>{escape(document.foot)}</p></footer>
</body>
</html>
"""


def _inline(text: str) -> str:
    """Text with its `commands` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _section(section: Section) -> str:
    missing = "\n".join(f'<p class="missing">Missing: {_inline(reason)}</p>' for reason in section.missing)
    blocks = "\n".join(_html(block) for block in section.blocks)
    return f'<section id="{section.key}">\n<h2>{escape(section.title)}</h2>\n{missing}\n{blocks}\n</section>'


def _html(block: Block) -> str:
    if isinstance(block, Text):
        return f"<p>{_inline(block.text)}</p>"
    if isinstance(block, Picture):
        title = escape(block.title)
        picture = f'<a href="{escape(block.file)}"><img src="{escape(block.file)}" alt="{title}" loading="lazy"></a>'
        return f"<figure>{picture}<figcaption>{title}</figcaption></figure>"
    if isinstance(block, Folded):
        return f"<details><summary>{escape(block.title)}</summary><pre>{escape(block.text)}</pre></details>"
    head = "".join(f"<th>{escape(text)}</th>" for text in block.head)
    rows = []
    for number, row in enumerate(block.rows):
        kind = "strong" if number in block.strong else "faint" if number in block.faint else ""
        rows.append(
            f'<tr class="{kind}">{"".join(map(_td, row))}</tr>' if kind else f"<tr>{''.join(map(_td, row))}</tr>"
        )
    return (
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table></div>'
    )


def _td(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f"<td>{escape(cell[0])}<small>{escape(cell[1])}</small></td>" if cell[1] else f"<td>{escape(cell[0])}</td>"
