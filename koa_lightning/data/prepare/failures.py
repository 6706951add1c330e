"""Why a file was omitted, in fixed words: a decoder's message may quote the header, which may contain a name."""

from __future__ import annotations

import re

OTHER = "cannot be read"
_REASONS = {  # pattern in a message -> text written to the output
    r"DICOM with \d+ frames|holds several pictures": "several frames",
    r"lateral view": "a lateral view",
    r"shows both knees": "both knees",
    r"text is burnt": "burnt-in text",
    r"no pixel spacing": "no pixel spacing",
    r"DICOM without": "pixel data or an element that describes it is missing",
    r"photometric interpretation": "photometric interpretation not read",
    r"bits stored": "number of bits not read",
    r"compressed as": "compression without decoder",
    r"tables cannot be applied|window width|VOI LUT function": "window or table that cannot be applied",
    r"truncated or damaged": "truncated or damaged",
    r"damaged DICOM file": "damaged header",
    r"not a DICOM file|not a readable PNG": "not an image",
    r"the file is empty": "empty file",
    r"too many pixels|are more than|a side is under": "too large or too small",
    r"NaN or infinite": "NaN or infinite pixels",
    r"signed 8-bit|colour or transparency in 16 bits": "number of bits not read",
}


def reason(message: str, name: str) -> str:
    """Return the reason of a failure, without any word from the file.

    Args:
        message: Of the InputError.
        name: The file's name, with which the message starts; it is ignored.
    """
    said = message.removeprefix(name)
    return next((words for pattern, words in _REASONS.items() if re.search(pattern, said)), OTHER)
