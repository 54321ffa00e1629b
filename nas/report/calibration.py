"""What a calibration found, as text for people."""

from rich.console import Console
from rich.table import Table

from nas.estimate.ranking import Calibration
from nas.report.summary_text import duration_text

WIDTH = 110


def calibration_text(found: Calibration) -> str:
    """The spread, the table of estimators by cost, and the advice."""
    spread = found.spread
    lines = (
        f"{found.num_architectures} architectures × {found.num_seeds} seeds in full: "
        f"{100 * spread.architectures:.2f} points between architectures, {100 * spread.seeds:.2f} between seeds "
        f"(p = {spread.p_value:.2g})",
        f"one full run ranks as the mean of the other seeds does by {found.ceiling}, regret "
        f"{found.ceiling_regret:.2f}; all architectures once: {duration_text(found.full_s)}",
    )
    return "\n".join((*lines, "", _table_text(found), "", found.advice))


def calibration_rows(found: Calibration) -> list[tuple[str, str, str, str, str, str]]:
    """One row an estimator: name, correlation with interval, that without one seed, regret, seconds, share."""
    return [
        (
            f.name,
            str(f.correlation),
            f"{f.rest:.2f}",
            f"{f.regret:.2f}",
            f"{f.cost_s:.1f}",
            f"{100 * f.cost_share:.0f} %",
        )
        for f in found.fidelities
    ]


def _table_text(found: Calibration) -> str:
    table = Table("estimator", "rank correlation", "without one seed", "regret", "seconds", "of full", box=None)
    for row, fidelity in zip(calibration_rows(found), found.fidelities, strict=True):
        table.add_row(*row, style="bold" if fidelity.name == found.choice else None)
    console = Console(width=WIDTH, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()
