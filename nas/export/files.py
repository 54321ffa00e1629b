"""Architecture files from stored trials, and what every export says of where it comes from. Needs no torch."""

from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.space.space import SearchSpace
from nas.statistics import wilson_interval
from nas.study.confirm.judge import judged
from nas.study.records import TrialRecord, landmark_of
from nas.study.store.hints import command_line
from nas.study.store.reader import Study

ENDINGS: dict[str, tuple[str, ...]] = {"yaml": (".yaml", ".yml"), "json": (".json",), "onnx": (".onnx",), "timm": ()}
"""Endings that a format's files may have; timm is a folder of any name."""
CONFIRMED = "confirmed"
"""What `nas export --trial` calls the winner of `nas confirm`."""
FRONT = "front"
"""What it calls the networks that none beats in every objective."""


def format_of(path: Path, chosen: str | None) -> str:
    """The format to write: the chosen one, which must fit the file's ending, or the one of that ending."""
    if chosen == "timm":
        return chosen
    formats = {ending: name for name, known in ENDINGS.items() if chosen in (None, name) for ending in known}
    if path.suffix not in formats:
        other = "; for a folder that timm loads say --format timm" if chosen is None else ""
        raise UserError(f"{path}: expected a file name that ends in {' or '.join(formats)}{other}")
    return formats[path.suffix]


def front_files(study: Study, folder: Path, format_: str) -> dict[str, Path]:
    """The file or folder of each member of the front, by its number; makes the folder they go to."""
    front = study.front()
    if not front:
        raise UserError(f"study {study.name!r} has no complete trial yet; `nas status` tells how far it is")
    ending = next(iter(ENDINGS[format_]), "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: expected a folder for the front's files: {error.strerror}") from None
    return {str(record.number): folder / f"trial-{record.number}{ending}" for record in front}


def chosen_trial(study: Study, which: str) -> TrialRecord:
    """The trial that ``best`` or a number names; it must own an architecture. See `chosen_part` for ``confirmed``."""
    if which == "best":
        record = study.best()
        if record is None:
            raise UserError(f"study {study.name!r} has no complete trial yet; `nas status` tells how far it is")
        return record
    if not which.isdigit():
        raise UserError(f"--trial: expected best, confirmed, front or the number of a trial, got {which!r}")
    record = study.trial(int(which))
    if record.architecture is None:
        raise UserError(f"trial {which} of study {study.name!r} has no architecture yet: it is {record.state}")
    return record


def chosen_part(study: Study, which: str) -> tuple[Study, TrialRecord]:
    """The trial that is meant and the study that trained it.

    ``confirmed`` is the winner of the confirmation as the first of its seeds trained it: that seed was not chosen
    by what it gave.
    """
    if which != CONFIRMED:
        return study, chosen_trial(study, which)
    found = judged(study)
    if found is None:
        confirm = command_line("confirm", study.name, url=study.url)
        raise UserError(f"study {study.name!r} has no finished confirmation; do or finish it: {confirm}")
    first = study.confirmations()[0]
    return first, next(record for record in first.trials() if record.digest == found.winner.network.digest)


def export_architecture(study: Study, which: str, path: Path) -> TrialRecord:
    """Write the canonical architecture of a trial with its provenance; returns the trial."""
    study, record = chosen_part(study, which)
    if record.architecture is None:
        raise UserError(f"trial {which} of study {study.name!r} has no architecture yet")
    record.architecture.canonical().save(path, provenance_of(study, record))
    return record


def provenance_of(study: Study, record: TrialRecord) -> dict[str, Any]:
    """Where an architecture comes from and what was measured of it; accuracies with their 95 % intervals."""
    plain = landmark_of(study.trials(), "plain")
    space = SearchSpace.from_dict(study.space)
    return {
        "study": study.name,
        "trial": record.number,
        "state": record.state,
        "val_accuracy": record.score,
        "val_accuracy_interval": _interval(study, record),
        "val_accuracy_of_plain": plain.score if plain else None,
        "val_accuracy_interval_of_plain": _interval(study, plain),
        "num_val": study.num_val,
        "seed": record.seed,
        "split_seed": study.config["data"]["split_seed"],
        "epochs": record.budget,
        "num_params": record.num_params,
        "macs": record.macs,
        "objectives": dict(record.values),
        "constraints": list(study.config.get("constraints", ())),
        "space": {"name": space.name, "digest": space.digest},
        "data": study.config["data"]["source"],
        "data_fingerprint": study.data["fingerprint"],
        "packages": study.provenance["packages"],
        **_tested(study, record),
    }


def _tested(study: Study, record: TrialRecord) -> dict[str, Any]:
    """What the confirmation that trained these weights measured on images that chose nothing; else nothing."""
    found = judged(study) if study.confirms is not None else None
    row = next((row for row in found.rows if row.network.digest == record.digest), None) if found else None
    if found is None or row is None:
        return {}
    above = row.above_plain
    return {
        "test": {
            "accuracy": row.test.value,
            "interval": [row.test.low, row.test.high],
            "accuracy_of_plain": found.plain.test.value,
            "interval_of_plain": [found.plain.test.low, found.plain.test.high],
            "above_plain": {"value": above.value, "interval": [above.low, above.high], "p_adjusted": above.p_adjusted}
            if above
            else None,
            "accuracy_of_these_weights": float(row.network.scores[found.seeds.index(record.seed)])
            if record.seed in found.seeds
            else None,
            "seeds": list(found.seeds),
            "num_test": found.num_test,
        }
    }


def _interval(study: Study, record: TrialRecord | None) -> list[float] | None:
    if record is None or record.score is None:
        return None
    return [round(bound, 4) for bound in wilson_interval(record.score, study.num_val)]
