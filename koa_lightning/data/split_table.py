"""A split as a table that others can repeat: the split of each knee, with a checksum.

The first line of the file has the SHA-256 of all that follows. Then comes CSV with the columns `path` (relative to
the data's folder, with `/`), `patient`, `side`, `grade`, `split` (train, val, test or auto_test), `fold` (0 ... n-1
outside the test split; only if folds were made) and `hash` (BLAKE2b of the file; empty for the test split, whose
files are not opened).
"""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from koa_lightning.config.places import user_path
from koa_lightning.data import manifest as mf
from koa_lightning.data import splits as splitting
from koa_lightning.data.user_tables import comparable
from koa_lightning.errors import InputError

COLUMNS = ("path", "patient", "side", "grade", "split", "fold", "hash")
_FIRST = "# koa-lightning split, sha256 of what follows: "


class SplitTable(NamedTuple):
    """A table read from a file.

    Attributes:
        rows: One per knee; see `COLUMNS`.
        checksum: SHA-256, hex.
        where: Its name in messages.
    """

    rows: pd.DataFrame
    checksum: str
    where: str

    @property
    def n_folds(self) -> int | None:
        """Return the number of folds in the table; None if there are none."""
        return int(self.rows["fold"].max()) + 1 if "fold" in self.rows else None

    def name(self, n_folds: int | None, seed: int) -> str:
        """Describe what `assign` does with it, for the record of a run."""
        folds = "" if n_folds is None else f" in {n_folds} folds" + ("" if self.n_folds else f" (seed {seed})")
        return f"table sha256={self.checksum}{folds}"


def write(manifest: pd.DataFrame, base: Path | None, file: Path) -> str:
    """Write the split of a manifest; return its checksum. The same split gives the same bytes.

    Args:
        manifest: With all splits, `hash` where it may be read, and `fold` (nullable) if there are folds.
        base: The folder to which paths are relative; None: paths stay unchanged.
        file: The file to write.

    Raises:
        InputError: The file exists with another split.
    """
    rows = manifest.assign(path=mf.relative_paths(manifest["path"], base)).sort_values("path")
    text = rows[[column for column in COLUMNS if column in rows]].to_csv(index=False, lineterminator="\n")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    content = f"{_FIRST}{checksum}\n{text}"
    if file.exists() and file.read_text() != content:
        raise InputError(f"{file}: already has another split; remove it, or name another folder with out=FOLDER")
    file.write_text(content)
    return checksum


def read(path: str | None) -> SplitTable:
    """Read a table that `write` made.

    Raises:
        InputError: It is missing, changed, or has a patient in two splits or folds.
    """
    if not path:
        raise InputError("data.split_table must be given with data.split=table; type data.split_table=FILE.csv")
    file, where = user_path(path), f"data.split_table={path}"
    try:
        first, _, text = file.read_text(encoding="utf-8").partition("\n")  # line ends become \n on every system
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: cannot be read ({error})") from None
    if not first.startswith(_FIRST):
        raise InputError(f"{where}: its first line has no checksum; give a file that koa_lightning.split wrote")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    if checksum != first.removeprefix(_FIRST).strip():
        raise InputError(f"{where}: it has changed since it was written (the checksum differs); use the original")
    as_text = dict.fromkeys(("path", "patient", "side", "split", "hash"), "str")
    kinds = {**as_text, "grade": "int8", "fold": "Int64"}
    rows = pd.read_csv(io.StringIO(text), dtype=kinds, keep_default_na=False, na_values={"fold": [""]})
    _check(rows, where)
    return SplitTable(rows, checksum, where)


def _check(rows: pd.DataFrame, where: str) -> None:
    needed = [column for column in COLUMNS if column not in rows and column != "fold"]
    if needed:
        raise InputError(f"{where}: column '{needed[0]}' is missing; give a file that koa_lightning.split wrote")
    twice = rows.loc[rows["path"].duplicated(), "path"]
    if len(twice):
        raise InputError(f"{where}: {twice.iloc[0]} is listed twice")
    mf.check_patients(rows, where)
    if "fold" in rows:
        known = rows.loc[rows["fold"].notna() & (rows["patient"] != ""), ["patient", "fold"]].drop_duplicates()
        leaking = known.loc[known["patient"].duplicated(), "patient"]
        if len(leaking):
            raise InputError(f"{where}: patient {leaking.iloc[0]} is in two folds; make the split again")


def assign(
    manifest: pd.DataFrame,
    table: SplitTable,
    base: Path | None,
    *,
    splits: set[str],
    n_folds: int | None,
    fold: int,
    seed: int,
    fold_val: bool = True,
) -> pd.DataFrame:
    """Return the manifest with the splits of a table; knees are matched by their path relative to the data's folder.

    If the table has no folds, they are made as for any other split. Knees of `auto_test` need not be in the table.

    Args:
        manifest: Of all knees.
        table: From `read`.
        base: The data's folder.
        splits: Those to be read: all of their knees in the table must be in the data.
        n_folds: As in `splitting.assign`.
        fold: The validation split.
        seed: Of folds that the table does not have.
        fold_val: As in `splitting.assign`.

    Raises:
        InputError: The knees, their grades or patients differ from those of the table, or it has other folds.
    """
    where = table.where
    own = pd.Series(_as_listed(mf.relative_paths(manifest["path"], base), table), index=manifest.index)
    listed = table.rows.set_index("path")
    strange = own[~own.isin(listed.index) & (manifest["split"] != mf.AUTO_TEST)]
    if len(strange):
        raise InputError(f"{where}: {len(strange)} knee(s) of the data are missing from it, e.g. {strange.iloc[0]}")
    absent = listed[listed["split"].isin(splits) & ~listed.index.isin(own)]
    if len(absent):
        raise InputError(
            f"{where}: {len(absent)} of its knees are missing from the data, e.g. {absent.index[0]}; give the data "
            "from which it was made"
        )
    matched = listed.reindex(own)
    matched.index = manifest.index
    known = matched["split"].notna()
    matched["patient"] = matched["patient"].str.normalize("NFC")  # as in the manifest
    for column in ("grade", "patient"):
        differs = known & (matched[column] != manifest[column])
        if differs.any():
            row = differs.index[differs][0]
            there, here = matched[column][row], manifest[column][row]
            raise InputError(f"{where}: {own[row]} has {column} {there} in the table but {here} in the data")
    frame = manifest.assign(split=matched["split"].where(known, manifest["split"]).astype("str"))
    if n_folds is None:
        return frame
    if table.n_folds is None:
        frame.loc[frame["split"] == "", "split"] = mf.AUTO_TEST
        return splitting.assign(
            frame, split="official", val_fraction=0, test_fraction=0, n_folds=n_folds, fold=fold, seed=seed,
            where=where, base=base, fold_val=fold_val,
        )  # fmt: skip
    if table.n_folds != n_folds:
        raise InputError(f"data.folds={n_folds}: {where} has {table.n_folds} folds; type data.folds={table.n_folds}")
    if not fold_val:
        frame, matched = frame[frame["split"] != "val"].copy(), matched[frame["split"] != "val"]
    in_fold = frame["split"].isin(["train", "val"])
    frame.loc[in_fold, "split"] = (matched.loc[in_fold, "fold"] == fold).map({True: "val", False: "train"})
    return frame


def _as_listed(paths: list[str], table: SplitTable) -> list[str]:
    """Return paths as the table spells them: another system may encode the same letters differently (NFC, NFD)."""
    exact = set(table.rows["path"])
    alike = {comparable(path): path for path in table.rows["path"]}
    return [path if path in exact else alike.get(comparable(path), path) for path in paths]


def say_changes(rows: pd.DataFrame, table: SplitTable, base: Path | None) -> None:
    """Warn if files have changed since the table was made; the splits are not affected.

    Args:
        rows: Knees with their `hash`.
        table: From `read`.
        base: The data's folder.
    """
    own = pd.Series(_as_listed(mf.relative_paths(rows["path"], base), table), index=rows.index)
    then = own.map(table.rows.set_index("path")["hash"]).fillna("")
    other = own[(then != "") & (then != rows["hash"])]
    if len(other):
        print(
            f"WARNING: {table.where}: {len(other)} file(s) have changed since it was written, e.g. "
            f"{other.iloc[0]}; the splits are the same, but the data fingerprint differs",
            file=sys.stderr,
            flush=True,
        )
