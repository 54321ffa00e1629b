"""Companions: studies that work for another one, whose name stands before theirs. No torch, no optuna."""

import re
import unicodedata

from nas.errors import UserError

CANDIDATES = "/candidates"
"""What the name of a study's cheap scores has behind the study's own."""
CONFIRM = "/confirm"
"""What the name of a study's confirmation has behind the study's own, before the seed."""
CALIBRATION = "/calibration"
"""What the name of a study's calibration has behind the study's own."""

_NAME = re.compile(rf"(?P<parent>.+)({CANDIDATES}|{CONFIRM}/\d+|{CALIBRATION}(/.*)?)", re.DOTALL)


def parent_of(name: str) -> str | None:
    """The study for which a companion of this name works, None where it is no companion's name."""
    found = _NAME.fullmatch(name)
    return found["parent"] if found else None


def check_new_name(name: str, source: str) -> None:
    """Refuse a study file's name that is a companion's, or that no command line could take."""
    if (parent := parent_of(name)) is not None:
        raise UserError(
            f"{source}: name: {name!r} is what a companion of a study {parent!r} is called; "
            "expected a name that does not end so"
        )
    unprintable = [character for character in name if unicodedata.category(character) in ("Cc", "Cs")]
    if name.startswith("-") or unprintable:
        what = f"the character {unprintable[0]!r}" if unprintable else "a - at its beginning"
        raise UserError(f"{source}: name: {name!r} has {what}; expected a name that a command line can take")
