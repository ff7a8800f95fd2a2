"""What ``pyproject.toml`` cannot say: the repository's address, which ``DiffMaSlicer.json`` alone names.

An index shows no relative links: once the address is set, the package names it, and its README's links are whole.
"""

import json
import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
address = json.loads((HERE / "DiffMaSlicer.json").read_text(encoding="utf-8"))["scm_url"].removesuffix(".git")
readme = (HERE / "README.md").read_text(encoding="utf-8")
pages, pictures = f"{address}/blob/main/", f"{address.replace('//github', '//raw.githubusercontent')}/main/"
urls = {"Source": address, "Documentation": f"{pages}docs/index.md", "Changelog": f"{pages}CHANGELOG.md"}
if "/OWNER/" in address:
    urls = {}
else:
    relative = r"\]\((?![a-z]+:|#)([^)]+)\)"
    readme = re.sub(relative, lambda to: f"]({pictures if to[1].endswith('.png') else pages}{to[1]})", readme)
setup(long_description=readme, long_description_content_type="text/markdown", project_urls=urls)
