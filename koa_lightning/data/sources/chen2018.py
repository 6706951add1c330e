"""Chen 2018 in the layout of Mendeley and Kaggle: `{train,val,test,auto_test}/{0..4}/NAME`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from koa_lightning.data import manifest as mf
from koa_lightning.data.find_images import say_skipped
from koa_lightning.data.grade_folders import data_folder, graded, names_found, say_unread, split_folders, with_names
from koa_lightning.data.patterns import CHEN_NAME, NamePattern
from koa_lightning.errors import InputError

_HINT = "Chen 2018 names them 9001104R.png; for other names use data=folder or data=table"


def chen2018(root: str | None) -> pd.DataFrame:
    """Return the rows of Chen 2018 in the layout of Mendeley and Kaggle: `{train,val,test,auto_test}/{0..4}/NAME`.

    Only names are read; they give patient and side. `auto_test` keeps its own name as a split. Other common split names
    (`valid`, `Training`) are accepted too, see `koa_lightning.data.manifest.split_of`. Any other folder with grades
    is reported.

    Raises:
        InputError: The folder is missing, empty, or has another layout, or two folders stand for the same split.
    """
    folder, where = data_folder(root, "data.root"), f"data.root={root}"
    looked_for = "looked for {train,val,test}/{0,1,2,3,4}/NAME.png or .jpg"
    skipped = set[Path]()
    splits = split_folders(folder, where, skipped)
    if not splits:
        raise InputError(f"{where}: {looked_for}; found {names_found(folder)} (data=folder reads {{0..4}}/NAME)")
    say_unread(folder, [*splits.values()], where)
    frames = [graded(path, skipped).assign(split=split) for split, path in splits.items()]
    say_skipped(where, skipped)
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        raise InputError(f"data.root={root}: no image in {', '.join(splits)}; {looked_for}")
    rows = pd.concat(filled, ignore_index=True)
    return mf.make(with_names(rows, NamePattern(CHEN_NAME), _HINT), f"data.root={root}")
