import dataclasses

import numpy as np
from PIL import Image

from koa_lightning.reporting.report import explanations, limits
from koa_lightning.reporting.report.blocks import Absent


def test_explanations_that_failed_are_said(full, words, tables):
    section = explanations.explanations(full)
    assert "Failed: sanity. Do not read these maps as explanations." in words(section)
    [rows] = tables(section)
    assert [row[3] for row in rows.rows] == ["passed"] * 3 + ["failed"] + ["passed"] * 3
    assert "50% of the heat in the joint band (30% of the picture)" in rows.rows[5][2]
    assert any("explanations failed 1 test: sanity" in line for line in limits.limits(full))


def test_worst_mistakes_by_the_rule(full, tables):
    section = explanations.failures(full)
    [rows] = tables(section)
    known = full.labelled
    wrong = known[known["predicted"] != known["grade"].astype(int)]
    distance = (wrong["expected_grade"] - wrong["grade"].astype(float)).abs()
    assert rows.rows[0][0] == wrong.loc[distance.idxmax(), "path"].rsplit("/", 1)[1]
    assert len(rows.rows) == min(12, len(wrong))
    assert isinstance(section.blocks[1], Absent)  # the files are nowhere


def test_pictures_of_the_worst_mistakes_where_the_files_are(full, tmp_path):
    moved = full.table.copy()
    moved["path"] = [str(tmp_path / path.rsplit("/", 1)[1]) for path in moved["path"]]
    for path in moved["path"][:100]:
        Image.fromarray(np.full((40, 30), 90, np.uint8)).save(path)
    section = explanations.failures(dataclasses.replace(full, table=moved))
    [pictures] = [block for block in section.blocks if block.kind == "pictures"]
    assert all(address.startswith("data:image/jpeg;base64,") for address, _ in pictures.items)
    assert 0 < len(pictures.items) <= 12
    phantoms = moved.assign(path=[f"phantom://5/P{n:06d}L-{n % 5}" for n in range(len(moved))])
    section = explanations.failures(dataclasses.replace(full, table=phantoms))
    assert [block.kind for block in section.blocks] == ["text", "pictures", "table"]


def test_no_failure_at_all(full, words):
    perfect = full.table.copy()
    perfect["predicted"] = perfect["grade"].astype(int)
    assert "is worth a second look" in words(explanations.failures(dataclasses.replace(full, table=perfect)))
