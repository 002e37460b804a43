"""Text files of unknown encoding, as people upload them."""

from __future__ import annotations

import codecs
from typing import Final

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: bytes) -> str:
    """Decode text of unknown encoding: UTF-8, 16 and 32, with a mark or without, else Windows-1252.

    Names and versions are ASCII in all of them, so a wrong guess can only garble comments.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    even, odd = data[0::2].count(0), data[1::2].count(0)
    if even + odd > len(data) // 4:  # every second byte of ASCII text in UTF-16
        return data.decode("utf-16-le" if odd >= even else "utf-16-be", errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
