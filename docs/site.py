"""Hooks of mkdocs: pages that lie beside `docs/` join the site, and their links follow them.

On the code host, README.md links to `docs/data.md` and docs/data.md to `../experiments/README.md`. The site has the
pages of `docs/` at its top and the others below it, so the step between the two is taken out of each link.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "koa_lightning/pretrained/card.md")
STUDIES = ("experiments/*.md", "experiments/*/*.md", "experiments/*/*.png")
LINK = re.compile(r"(\]\()((?:\.\./)*docs/|\.\./)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and figures outside `docs/`."""
    outside = [ROOT / page for page in PAGES] + [path for pattern in STUDIES for path in sorted(ROOT.glob(pattern))]
    for path in outside:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite links between `docs/` and its neighbours for the site."""
    inside = not (ROOT / page.file.src_uri).is_file()

    def moved(link: re.Match[str]) -> str:
        if inside:
            return link[1] + ("" if link[2] == "../" else link[2])
        return link[1] + link[2].removesuffix("docs/")

    return LINK.sub(moved, markdown)
