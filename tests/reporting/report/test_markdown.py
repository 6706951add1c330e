"""Sections as Markdown."""

from koa_lightning.reporting.report.blocks import Absent, Facts, Section, Table, Text
from koa_lightning.reporting.report.markdown import render

SECTIONS = [
    Section("one", "One", [Text("Plain."), Text("Loud.", "loud"), Facts([("Name", "value"), ("Empty", "")])]),
    Section("two", "Two", [Table("Caption", ["a", "b"], [["x|y", "1"], ["", "2"]], "Note."), Absent("Nothing here.")]),
]


def test_each_block():
    text = render(SECTIONS)
    assert text.startswith("## One\n\nPlain.\n\n**Loud.**\n\n- **Name.** value\n")
    assert "| a | b |\n| :-- | --: |\n| x\\|y | 1 |\n|   | 2 |\n\nNote." in text
    assert text.endswith("Nothing here.\n") and "Empty" not in text


def test_sections_are_chosen_by_name():
    assert "Two" not in render(SECTIONS, ["one"]) and render(SECTIONS, ["two"], 3).startswith("### Two")
