"""The contact sheet: a row for each operation and for all together, of the train split alone."""

import numpy as np
import torch
from PIL import Image

from koa_lightning.training.augmentation import FusedAugmentation, RandomCollimation, RandomMeanContrast, sheet


def test_the_sheet_has_a_row_for_each_operation_drawn_for_all():
    operations = {"edges": RandomCollimation((0.4, 0.5), p=0.0), "contrast": RandomMeanContrast(0.0)}
    knees = torch.full((3, 1, 40, 40), 200, dtype=torch.uint8)
    drawn = np.asarray(sheet.contact_sheet(FusedAugmentation(operations), knees, ["a", "b", "c"], 0, "what it is"))
    step = 40 + sheet._LINE + sheet._GAP
    assert drawn.shape == (2 * sheet._LINE + (3 + sheet._TOGETHER) * step, sheet._WIDTH)
    rows = [drawn[2 * sheet._LINE + i * step + sheet._LINE :][:40, :40] for i in range(6)]
    assert (rows[0] == 200).all() and (rows[2] == 200).all()
    assert (rows[1] == 0).mean() > 0.9
    assert all((row == 200).all() for row in rows[3:])
    assert operations["edges"].p == 0.0


def test_large_pictures_are_made_smaller():
    knees = torch.zeros(1, 1, 400, 200, dtype=torch.uint8)
    drawn = sheet.contact_sheet(FusedAugmentation({}), knees, [""], 0, "")
    assert drawn.size == (sheet._WIDTH, 2 * sheet._LINE + sheet._CELL + sheet._LINE + sheet._GAP)


def test_the_command(launch, place):
    from koa_lightning.show_augment import main

    small = ("data.source.n_patients=12", "data.image_size=32", "n_knees=4")
    blur = "+augment.ops.blur={_target_:kornia.augmentation.RandomGaussianBlur,kernel_size:[3,3],sigma:[0.1,2]}"
    ended = launch(main, "out=here", *small, "~augment.ops.rotation", blur)
    assert ended.code == 0, ended.err
    assert ended.out == [f"{place / 'here' / 'augment.png'}: 4 knees under 5 operations"]
    assert Image.open(place / "here" / "augment.png").mode == "L"
    wrong = launch(main, "out=there", *small, "augment.ops.rotaton.p=1")
    assert wrong.code == 2 and wrong.err == [
        "error: augment.ops.rotaton.p: no such key in the configuration; did you mean 'augment.ops.rotation.p'? "
        "(all keys: add --cfg job)"
    ]
    old = launch(main, "out=there", *small, "augment.rotation=5")
    assert old.code == 2 and "is a key of version 0.1; operations now have names" in old.err[0]
    unknown = launch(main, "out=there", *small, "augment.ops.flip._target_=kornia.augmentation.RandomFlip")
    assert unknown.code == 2 and len(unknown.err) == 1 and "there is no such operation" in unknown.err[0]
    assert not (place / "there").exists()
