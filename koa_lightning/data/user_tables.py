"""Tables that users give: CSV as spreadsheets of any country write it, or Parquet; read right, or refused by reason."""

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
_KNOWN = {*TEXT, "grade", "p0", "p1", "p2", "p3", "p4"}  # which reveal the separator
_SEPARATORS = (",", ";", "\t", "|")
_MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>"]
_COMMA_NUMBER = r"[+-]?\d*,?\d+(?:[eE][+-]?\d+)?"
_SAID_SEPARATOR = re.compile(r'^"?sep=(.)"?\r?\n', re.IGNORECASE)  # a first line of Excel


def read_table(file: Path, *, as_text: bool = False) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    CSV may be separated by comma, semicolon, tab or bar, in UTF-8 or UTF-16; rows may end in a separator. Where the
    separator is no comma, numbers may have a decimal comma.

    Args:
        file: Its ending tells Parquet (.parquet, .pq); all else is CSV.
        as_text: Every cell of a CSV file stays text, empty where there is none.

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
        text = text.rstrip(f"{separator} \t\r\n") + "\n"  # rows of nothing at the end, as spreadsheets leave them
        names = _names(text, separator, file)
        # A patient may be called NA, so each column says what counts as missing. low_memory guesses a column's type
        # piece by piece, and a column of two types cannot be written as Parquet. index_col: a row that ends in a
        # separator has a cell more than there are names, and pandas would take the first for an index.
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
        raise ValueError("it holds zero bytes, as no text does")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8; save the table as CSV UTF-8") from None


def _separator(text: str) -> str:
    """Return what separates the names of the first line: that which gives most names known here, or most names."""
    first = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]

    def rank(separator: str) -> tuple[int, int]:
        names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        return len(_KNOWN & set(names)), len(names)

    return max(_SEPARATORS, key=rank)  # of equals the first, which is the comma


def _names(text: str, separator: str, file: Path) -> list[str]:
    """Return the columns' names, of empty columns as so many zero bytes; check the rows.

    Raises:
        InputError: Two columns have one name, a column of cells has none, or a row has more cells than there are names.
        ValueError: There is no first line.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    names = [name.strip() for name in next((row for row in rows if row), [])]
    if not any(names):
        raise ValueError("it has no first line with names of columns")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise InputError(f"{file}: two columns are named '{twice[0]}'; rename one, or take it out")
    unnamed = [at for at, name in enumerate(names) if not name]
    for row in rows:
        if len(row) <= len(names) and not unnamed:
            continue
        surplus = [*row[len(names) :], *(row[at] for at in unnamed if 0 < at < len(row))]
        if filled := [cell for cell in surplus if cell.strip()]:
            raise InputError(
                f"{file}: line {rows.line_num}: {len(row)} cells, and the first line names {len(names) - len(unnamed)} "
                f"columns ('{filled[0][:40]}' has none); name all, and put cells that hold '{separator}' in quotes"
            )
    return [name or "\0" * (at + 1) for at, name in enumerate(names)]


def _with_decimal_commas(table: pd.DataFrame) -> pd.DataFrame:
    """Turn columns of numbers with a decimal comma into numbers."""
    for name in table.columns.difference(list(TEXT)):
        cells = table[name]
        if pd.api.types.is_numeric_dtype(cells) or pd.api.types.is_bool_dtype(cells):
            continue
        given = cells.dropna().astype("str").str.strip()
        if len(given) and given.str.fullmatch(_COMMA_NUMBER).all():
            table[name] = pd.to_numeric(given.str.replace(",", ".")).reindex(table.index)
    return table


def on_disk(base: Path, path: str) -> str:
    r"""Return where the file of a table's path lies: as written, or with `\` for `/`, or with letters spelled apart.

    macOS writes `é` as two characters where a table has one (NFD and NFC of Unicode); Windows separates folders by `\`.

    Args:
        base: Where paths start.
        path: As the table has it.

    Returns:
        The normalised path, also of a file that is not there.
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
    r"""Return a path in the form by which paths of two tables are compared: `/` for `\`, NFC of Unicode."""
    return unicodedata.normalize("NFC", path.replace("\\", "/"))
