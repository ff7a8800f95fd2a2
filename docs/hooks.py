"""MkDocs hooks: pictures and files outside docs/ that its pages link to, so that one link serves here and on GitHub."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ("Screenshots/*.png", "Training/*.png")


def on_files(files, config):
    """Add the repository's pictures to the site."""
    for path in (path for pattern in PICTURES for path in ROOT.glob(pattern)):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Pictures are in the site; everything else above docs/ is named by its path, unlinked."""
    markdown = re.sub(r"\]\(\.\./((?:Screenshots|Training)/[\w-]+\.png)\)", r"](\1)", markdown)
    return re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1", markdown)
