"""Users' tables: CSV as written by spreadsheets in any country, or Parquet; read correctly or refused with a reason."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from pathlib import Path

import pandas as pd

from koa_lightning.data.images import one_line
from koa_lightning.errors import InputError

TEXT = ("path", "patient", "side", "split")  # identifiers stay text: leading zeros are kept
_KNOWN = {*TEXT, "grade", "p0", "p1", "p2", "p3", "p4"}  # these reveal the separator
_SEPARATORS = (",", ";", "\t", "|")
_MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>"]
_COMMA_NUMBER = r"[+-]?\d*,?\d+(?:[eE][+-]?\d+)?"
_SAID_SEPARATOR = re.compile(r'^"?sep=(.)"?\r?\n', re.IGNORECASE)  # a first line of Excel


def read_table(file: Path, *, as_text: bool = False) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    CSV may be separated by comma, semicolon, tab or bar, in UTF-8 or UTF-16; rows may end in a separator. If the
    separator is not a comma, numbers may have a decimal comma.

    Args:
        file: The extension .parquet or .pq means Parquet; all others mean CSV.
        as_text: Every cell of a CSV file stays text; missing cells are empty.

    Raises:
        InputError: The file is neither, a row has more cells than the first line has names, or two columns have one
            name.
    """
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(file)
            return table.astype("str").fillna("") if as_text else table
        text = _decoded(file.read_bytes())
        if said := _SAID_SEPARATOR.match(text):
            text = text[said.end() :]
        separator = said[1] if said else _separator(text)
        text = text.rstrip(f"{separator} \t\r\n") + "\n"  # empty rows at the end, as left by spreadsheets
        names = _names(text, separator, file)
        # A patient may be called NA, so each column has its own missing values. low_memory guesses a column's type
        # piece by piece, and a column of two types cannot be written as Parquet. index_col: a row that ends in a
        # separator has one cell more than there are names, and pandas would use the first as an index.
        missing = {name: [""] if name in TEXT else _MISSING for name in names}
        table = pd.read_csv(
            io.StringIO(text), sep=separator, header=0, names=names, usecols=range(len(names)), index_col=False,
            dtype="str" if as_text else dict.fromkeys([name for name in names if name in TEXT], "str"),
            skipinitialspace=True, low_memory=False, keep_default_na=False, na_values=None if as_text else missing,
        )  # fmt: skip
    except (ValueError, OSError, csv.Error) as error:  # parser errors are ValueErrors
        raise InputError(f"{file}: not a readable CSV or Parquet table ({one_line(error)})") from None
    table = table.drop(columns=[name for name in names if not name.strip("\0")])
    return table.fillna("") if as_text else _with_decimal_commas(table) if separator != "," else table


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # "Unicode text" of Excel
        return data.decode("utf-16")
    if b"\0" in data:
        raise ValueError("it contains zero bytes, so it is not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8; save the table as CSV UTF-8") from None


def _separator(text: str) -> str:
    """Return the separator of the first line: the one that gives most known names, then most names."""
    first = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]

    def rank(separator: str) -> tuple[int, int]:
        names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        return len(_KNOWN & set(names)), len(names)

    return max(_SEPARATORS, key=rank)  # ties go to the first, the comma


def _names(text: str, separator: str, file: Path) -> list[str]:
    """Return the columns' names, with zero bytes for empty columns; check the rows.

    Raises:
        InputError: Two columns have the same name, a column with cells has none, or a row has more cells than names.
        ValueError: There is no first line.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    names = [name.strip() for name in next((row for row in rows if row), [])]
    if not any(names):
        raise ValueError("it has no first line with column names")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise InputError(f"{file}: two columns are named '{twice[0]}'; rename or remove one")
    unnamed = [at for at, name in enumerate(names) if not name]
    for row in rows:
        if len(row) <= len(names) and not unnamed:
            continue
        surplus = [*row[len(names) :], *(row[at] for at in unnamed if 0 < at < len(row))]
        if filled := [cell for cell in surplus if cell.strip()]:
            raise InputError(
                f"{file}: line {rows.line_num}: {len(row)} cells, but the first line names {len(names) - len(unnamed)} "
                f"columns ('{filled[0][:40]}' has none); name all, and put cells with '{separator}' in quotes"
            )
    return [name or "\0" * (at + 1) for at, name in enumerate(names)]


def _with_decimal_commas(table: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of numbers with a decimal comma to numbers."""
    for name in table.columns.difference(list(TEXT)):
        cells = table[name]
        if pd.api.types.is_numeric_dtype(cells) or pd.api.types.is_bool_dtype(cells):
            continue
        given = cells.dropna().astype("str").str.strip()
        if len(given) and given.str.fullmatch(_COMMA_NUMBER).all():
            table[name] = pd.to_numeric(given.str.replace(",", ".")).reindex(table.index)
    return table


def on_disk(base: Path, path: str) -> str:
    r"""Return the location of a path in a table: as written, with `\` for `/`, or in another Unicode form.

    macOS writes `é` as two characters where a table has one (NFD and NFC of Unicode); Windows separates folders by `\`.

    Args:
        base: Where paths start.
        path: As in the table.

    Returns:
        The normalised path, even if the file does not exist.
    """
    written = os.path.normpath(base / path)
    slashed = path.replace("\\", "/") if os.sep == "/" else path
    if (slashed == path and path.isascii()) or os.path.lexists(written):
        return written
    found = Path(base)
    for part in Path(slashed).parts:
        spelled = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        found /= next((each for each in spelled if os.path.lexists(found / each)), part)
    return os.path.normpath(found)


def comparable(path: str) -> str:
    r"""Return a path in the form used to compare paths of two tables: `/` for `\`, NFC of Unicode."""
    return unicodedata.normalize("NFC", path.replace("\\", "/"))
