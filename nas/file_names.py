"""A study's name as the name of a file or folder.

Plain names stay as they are. Of all others, each character that some file system may not take is percent-encoded, so
that `urllib.parse.unquote` gives the name back and no two names share a file. What would be too long is cut and ends
in `~` and a digest of the whole name; no other file name has a `~`.
"""

import hashlib
import re
from pathlib import Path
from urllib.parse import quote

MAX_LENGTH = 120
"""Of a file name, so that there is room for what stands before and behind it: eCryptfs takes 143 bytes."""
DIGEST_LENGTH = 16
RESERVED = re.compile(r"(aux|con|nul|prn|com\d|lpt\d)(\..*)?|checkpoints|tracking", re.IGNORECASE)
"""Names that mean something else: devices of Windows, and the folders beside those of studies."""
RESERVED_ENDING = re.compile(r"\.(?=(db|sqlite3?|ya?ml)(-\w+)?$)", re.IGNORECASE)
"""So do names that end like databases and study files, which lie there too."""


def file_name(study_name: str) -> str:
    """The file name of a study, a different one for every name; at most `MAX_LENGTH` characters of ASCII."""
    text = quote(study_name, safe=" ").replace("~", "%7E")
    if text[0] in "-. " or RESERVED.fullmatch(text):  # an option, a hidden file, the folder above
        text = _encoded(text[0]) + text[1:]
    text = RESERVED_ENDING.sub(_encoded("."), text)
    if text[-1] in ". ":  # Windows drops it
        text = text[:-1] + _encoded(text[-1])
    if len(text) <= MAX_LENGTH:
        return text
    digest = hashlib.sha256(study_name.encode()).hexdigest()[:DIGEST_LENGTH]
    head = re.sub(r"%.?$", "", text[: MAX_LENGTH - DIGEST_LENGTH - 1])  # no half of an encoded character
    return f"{head}~{digest}"


def _encoded(character: str) -> str:
    return f"%{ord(character):02X}"


def earlier_place(folder: Path, study_name: str, ending: str = "") -> Path | None:
    """Where version 0.1 kept what is now at `file_name`: None where that is the same, or nothing is there.

    It replaced whatever it did not know by `_`, so that several studies could share one place.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", study_name) + ending
    if name in (".", "..", file_name(study_name) + ending):
        return None
    try:
        return folder / name if (folder / name).is_dir() else None
    except OSError:  # too long, which it always was
        return None
