"""From one file to one knee for `predict`: pixels, with patient and side from the DICOM header or the name."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from koa_lightning.data import patterns
from koa_lightning.data.find_images import check_name
from koa_lightning.data.images import decode, is_dicom, read_bytes
from koa_lightning.data.patterns import NamePattern
from koa_lightning.data.prepare.failures import reason
from koa_lightning.data.prepare.films import shows_both_knees
from koa_lightning.data.prepare.names import find_key
from koa_lightning.errors import InputError

# Names of pictures made by `prepare`: a hashed patient, the side (U: unknown), a number.
_PREPARED = re.compile(r"^(?P<patient>[0-9a-f]{16})-(?P<side>[LRU])-\d+\.png$")


class DicomError(InputError):
    """A DICOM file that cannot be graded; the message may quote its header and is for the terminal only.

    Attributes:
        reason: The same in fixed words, for files.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.reason = f"{name}: {reason(message, name)}"


@dataclass(frozen=True)
class OneKnee:
    """A file: its pixels (uint8 H x W), its patient (hashed for DICOM) and its side, empty if unknown."""

    image: np.ndarray
    patient: str
    side: str


@dataclass
class Reader:
    """Reads files as `prepare` does, and refuses those that do not show one knee.

    Attributes:
        pattern: Pattern of the file names of the training data; None if names give no information.
        side: The side of all files, if typed.
        films: `auto` refuses films of both knees; `never` treats every picture as one knee.
        key_file: The secret behind the names of patients, see `koa_lightning.data.prepare.names.find_key`.
        output: The folder of predictions, which must not hold the key.
        names_patients: False: patients of DICOM files stay unknown, and no key is needed.
        said: Number of files per warning.
    """

    pattern: NamePattern | None
    side: str
    films: str
    key_file: str | None
    output: Path
    names_patients: bool = True
    said: Counter[str] = field(default_factory=Counter)

    def read(self, path: Path) -> OneKnee:
        """Read a file.

        Raises:
            InputError: It cannot be read, or shows both knees.
            DicomError: The same for a DICOM file, and for a lateral view.
        """
        check_name(path)
        return self.of_bytes(read_bytes(path), path)

    def of_bytes(self, data: bytes, path: Path) -> OneKnee:
        """Read the content of a file that is already in memory.

        Args:
            data: The whole file.
            path: Its name, for messages and possibly with patient and side. It is not opened.

        Raises:
            InputError: See `read`.
            DicomError: See `read`.
        """
        name = str(path)
        if not is_dicom(data, name):
            patient, side = self._named(path)
            return OneKnee(self._one(np.asarray(decode(data, name)), name, ""), patient, self.side or side)
        try:
            return self._of_dicom(path, data)
        except InputError as error:
            raise DicomError(str(error), name) from error

    def warnings(self) -> list[str]:
        """Return one line per warning about the files read so far."""
        return [f"{n} of the DICOM files {words}" for words, n in self.said.items()]

    def hashed(self, patient: str) -> str:
        """Return the pseudonym of the patient in a DICOM header."""
        return find_key(self.key_file, self.output).patient(patient)

    def _of_dicom(self, path: Path, data: bytes) -> OneKnee:
        from koa_lightning.data.dicom.header import read_header  # pydicom, as in `images.decode`

        header = read_header(data, str(path), burnt_in=True)
        patient, side = self._named(path)
        if header.burnt_in:
            self.said["say that text is burnt in, which may be a name: check their overlays before you share them"] += 1
        if side and header.side and side != header.side:
            self.said["have different sides in name and header; the header was used"] += 1
        if header.patient and self.names_patients:
            patient = self.hashed(header.patient)
        image = self._one(np.asarray(decode(data, str(path))), str(path), header.side, header.orientation)
        return OneKnee(image, patient, self.side or header.side or side)

    def _named(self, path: Path) -> tuple[str, str]:
        if match := _PREPARED.match(path.name):
            return match["patient"], match["side"].replace("U", "")
        return patterns.named(str(path), self.pattern)

    def _one(self, image: np.ndarray, name: str, side: str, orientation: str = "") -> np.ndarray:
        """Return a picture of one knee, or refuse one of two: a side in the header means one knee, as in `prepare`."""
        if side or not shows_both_knees(image, split=self.films, orientation=orientation):
            return image
        raise InputError(
            f"{name}: shows both knees, so it gets no single grade; type python -m koa_lightning.prepare input=FOLDER "
            "output=OTHER, and predict with input=OTHER (or films=never, if it shows one knee)"
        )
