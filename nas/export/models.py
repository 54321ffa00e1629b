"""Trained networks leave a study: built beside their place, verified there, and only then given their name."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nas.architecture import Architecture
from nas.errors import UserError
from nas.export.files import chosen_part, provenance_of
from nas.export.onnx import check_installed, write_onnx
from nas.export.preprocessing import preprocessing_of
from nas.export.timm_folder import check_replaceable, write_folder
from nas.export.verify import Verification, verify
from nas.export.weights import retrained_model, stored_model
from nas.machine import cpu_count
from nas.study.records import TrialRecord
from nas.study.run.training import Training
from nas.study.store.reader import Study

WRITERS = {"timm": write_folder, "onnx": write_onnx}


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written."""

    record: TrialRecord
    architecture: Architecture
    verification: Verification


def export_model(study: Study, which: str, path: Path, format_: str, *, retrain: bool = False) -> Export:
    """Write the trained network of a trial as a folder for timm or an ONNX file, once it is verified.

    Args:
        which: ``best``, ``confirmed`` or the number of a trial.
        format_: a key of `WRITERS`.
        retrain: train the trial again instead of reading its checkpoint.

    Raises:
        UserError: there is no such trial, it has no usable weights, or ``path`` cannot be written.
        NasError: what was written does not agree with the model in memory or the recorded score.
    """
    study, record = chosen_part(study, which)
    architecture, score = record.architecture, record.score
    if architecture is None or score is None or record.state != "complete":
        raise UserError(
            f"trial {record.number} of study {study.name!r} is {record.state}: only complete trials have "
            "trained weights; --format yaml needs none"
        )
    path = path.resolve()
    _check_target(path, format_)
    device = next((w.device for w in study.workers() if w.worker_id == record.worker), "cpu")
    threads = max(1, cpu_count() // study.config["workers"])
    training = Training(study, device=device if retrain else "cpu", threads=threads)
    model = retrained_model(training, record, architecture) if retrain else stored_model(study, record, architecture)
    with _staged(path) as staging:
        WRITERS[format_](
            staging,
            model,
            architecture,
            preprocessing=preprocessing_of(training.data),
            label_names=training.data.summary.class_names,
            provenance=provenance_of(study, record),
        )
        verification = verify(staging, model, training.config, device=device, input_size=training.data.input_size)
        verification.check(format_, score)
    return Export(record=record, architecture=architecture, verification=verification)


def _check_target(path: Path, format_: str) -> None:
    """Refuse what cannot be written before anything is computed."""
    if format_ == "timm":
        check_replaceable(path)
        return
    check_installed()
    if path.is_dir():
        raise UserError(f"{path}: expected a file name, this is a folder")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A place on the target's file system; what lies there becomes the target when the block ends well.

    A file is replaced in one step. A folder that is replaced makes way first, and comes back if its successor
    cannot take its place.
    """
    existing = next(parent for parent in target.parents if parent.is_dir())
    try:
        root = Path(tempfile.mkdtemp(dir=existing, prefix=f".{target.name}."))
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from None
    try:
        yield root / target.name
        _flush(root / target.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        _rename(root / target.name, target, aside=root / "replaced")
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _rename(source: Path, target: Path, *, aside: Path) -> None:
    if not target.is_dir():
        source.replace(target)
        return
    target.rename(aside)
    try:
        source.rename(target)
    except OSError:
        aside.rename(target)
        raise


def _flush(path: Path) -> None:
    """Have the system write a file, or a folder's files, to disk; their rights are what the umask leaves to files."""
    umask = os.umask(0o077)
    os.umask(umask)  # the only way to read it
    for file in path.iterdir() if path.is_dir() else (path,):
        file.chmod(0o666 & ~umask)
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
