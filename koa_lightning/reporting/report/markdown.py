"""Report sections as Markdown, for a model card beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from koa_lightning.reporting.report.blocks import Absent, Drawing, Facts, Pictures, Section, Table, Text


def render(sections: list[Section], names: Collection[str] | None = None, level: int = 2) -> str:
    """Return sections as Markdown.

    Args:
        sections: From `contents.sections`.
        names: Names of the sections to include; None: all.
        level: Level of their headings.

    Returns:
        Markdown without pictures: each figure is replaced by its caption.
    """
    wanted = [section for section in sections if names is None or section.name in names]
    parts = []
    for section in wanted:
        parts.append(f"{'#' * level} {section.title}")
        parts += [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join(parts) + "\n"


def _block(block: Any) -> str:
    makers: dict[str, Callable[[Any], str]] = {"table": _table, "facts": _facts, "text": _words, "absent": _words}
    maker = makers.get(block.kind)
    return maker(block) if maker else _named(block)


def _words(block: Text | Absent) -> str:
    return f"**{block.words}**" if getattr(block, "tone", "") == "loud" else block.words


def _table(block: Table) -> str:
    ruler = [":--" if number in block.words else "--:" for number in range(len(block.columns))]
    rows = [block.columns, ruler, *block.rows]
    lines = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join([f"{block.caption}:", "", *lines, *(["", block.note] if block.note else [])])


def _facts(block: Facts) -> str:
    return "\n".join(f"- **{name}.** {value}" for name, value in block.rows if value)


def _named(block: Drawing | Pictures) -> str:
    return f"*{block.caption}*" if isinstance(block, Drawing | Pictures) and block.caption else ""


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ") or " "
