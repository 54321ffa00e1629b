"""All studies of a database, one row each, and what goes with one that is removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nas.report.summary_text import duration_text
from nas.study.store.studies import StoredStudy

if TYPE_CHECKING:
    from nas.study.removal import Removal

COLUMNS = ("study", "state", "trials", "checkpoints", "last sign of life", "companions")


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A study with its companions."""

    name: str
    state: str
    """`done`, `running` (workers are alive), `stopped`, or `deleted` with Optuna, which leaves rows of ours behind."""
    ended: int
    target: int
    workers_alive: int
    silent_s: float | None
    """Seconds since the last sign of life of any worker, None where none ever joined."""
    seen_at: float | None
    created_at: float
    checkpoint_bytes: int
    companions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``; the fields are stable."""
        return {
            "study": self.name,
            "state": self.state,
            "ended": self.ended,
            "target": self.target,
            "workers_alive": self.workers_alive,
            "last_sign_of_life": _moment(self.seen_at),
            "silent_s": self.silent_s,
            "created_at": _moment(self.created_at),
            "checkpoint_bytes": self.checkpoint_bytes,
            "companions": list(self.companions),
        }


def study_rows(studies: Sequence[StoredStudy], checkpoint_bytes: Sequence[int]) -> tuple[StudyRow, ...]:
    """One row for each study that a user began, and for each companion whose study is gone.

    Args:
        checkpoint_bytes: of each of ``studies``.
    """
    names = {study.name for study in studies}
    sizes = dict(zip((study.name for study in studies), checkpoint_bytes, strict=True))
    rows = []
    for study in (study for study in studies if study.parent not in names):
        group = [study, *(other for other in studies if other.parent == study.name)]
        seen = [other for other in group if other.seen_at is not None]
        latest = max(seen, key=lambda other: other.seen_at or 0.0, default=study)
        alive = sum(other.num_alive for other in group)
        rows.append(
            StudyRow(
                name=study.name,
                state=_state(study, alive),
                ended=study.num_ended,
                target=study.target,
                workers_alive=alive,
                silent_s=latest.silent_s,
                seen_at=latest.seen_at,
                created_at=study.created_at,
                checkpoint_bytes=sum(sizes[other.name] for other in group),
                companions=tuple(other.name for other in group[1:]),
            )
        )
    return tuple(rows)


def _state(study: StoredStudy, alive: int) -> str:
    if not study.whole:
        return "deleted"
    if alive:
        return "running"
    return "done" if study.num_ended >= study.target else "stopped"


def studies_table(rows: Sequence[StudyRow]) -> str:
    """A table for people."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def _cells(row: StudyRow) -> tuple[str, ...]:
    return (
        row.name,
        row.state,
        f"{row.ended} of {row.target}",
        bytes_text(row.checkpoint_bytes),
        "never" if row.silent_s is None else f"{duration_text(max(0.0, row.silent_s))} ago",
        str(len(row.companions)),
    )


def removal_text(removal: "Removal", num_bytes: int) -> str:
    """What goes with a study: its rows, the folders of checkpoints and what was written as its results."""
    lines = [
        f"{'companion' if study.parent else 'study'} {study.name!r}"
        f"{f': {study.num_ended} of {study.target} trials' if study.whole else ': what Optuna has left of it'}"
        for study in removal.studies
    ]
    lines += [f"checkpoints {path}" for path in removal.checkpoints]
    lines += [f"results {path}" for path in removal.results]
    files = removal.checkpoints or removal.results
    return "\n".join([*lines, *([f"files: {bytes_text(num_bytes)}"] if files else [])])


def bytes_text(count: int) -> str:
    """A size for people, with the unit that suits it."""
    size, units = float(count), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    for larger in units:
        if size < 1024:  # noqa: PLR2004
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
