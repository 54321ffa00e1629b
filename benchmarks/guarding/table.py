"""What the guard did to the recorded runs, as Markdown."""

from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.guarding.judge import Judged
from nas.statistics import wilson_interval
from nas.training.config import GuardConfig
from nas.training.signals import SIGNALS


def table(runs: Sequence[Judged]) -> str:
    """What was harmed and what became of it, the figures with Wilson intervals, the misses one by one."""
    held_out = [run for run in runs if run.held_out]
    lines = [
        "| task | runs | failed | of these broke | broke and stopped | epochs of these saved | ended well | "
        "of these stopped |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task, group in dict.fromkeys((run.task, run.group) for run in runs):
        lines.append(f"| {task}: {group} | {_counts(run for run in runs if (run.task, run.group) == (task, group))} |")
    lines += [f"| **all** | {_counts(runs)} |", f"| **held-out seeds** | {_counts(held_out)} |", ""]
    for those, which in ((runs, "all seeds"), (held_out, "held-out seeds")):
        well = [run for run in those if not run.failed]
        lines += [
            _share([run.reason is not None for run in those if run.broke], f"Recall of what broke, {which}"),
            _share([run.reason is not None for run in those if run.failed], f"Stopped of all that failed, {which}"),
            _share([run.reason is not None for run in well], f"False prunes, {which}"),
            _share(
                [run.reason is not None for run in well if run.plain], f"False prunes of the plain network, {which}"
            ),
        ]
    lines.append("")
    for text, those in (
        ("Broke and not stopped", [run for run in runs if run.broke and run.reason is None]),
        ("Ended well and stopped", [run for run in runs if not run.failed and run.reason is not None]),
    ):
        told = "; ".join(f"{run.key} ({run.reason or 'no signal'}: {_curve(run)})" for run in those)
        lines.append(f"- {text}: {told or 'none'}.")
    return "\n".join([*lines, "", *signals(runs)]) + "\n"


def signals(runs: Sequence[Judged]) -> list[str]:
    """How often each spoke, and what came of it."""
    lines = [
        "| signal | spoke in runs that broke | in runs that ended well | ended what broke | ended what ends well |"
    ]
    lines.append("|---|---:|---:|---:|---:|")
    broke, well = [run for run in runs if run.broke], [run for run in runs if not run.failed]
    ended = [Counter(run.reason for run in those) for those in (broke, well)]
    for signal in SIGNALS:
        if GuardConfig().verdict(signal.name) == "warn":
            continue
        spoke = [sum(signal.name in run.alarms for run in those) for those in (broke, well)]
        counts = (*spoke, *(count[signal.name] for count in ended))
        lines.append(f"| `{signal.name}` | {' | '.join(map(str, counts))} |")
    return lines


def _curve(run: Judged) -> str:
    """Balanced accuracies; of a long run every fifth or tenth."""
    every = max(1, len(run.curve) // 10)
    return " ".join(f"{value:.2f}" for value in run.curve[::every])


def _counts(runs: Iterable[Judged]) -> str:
    every = list(runs)
    failed, broke = [run for run in every if run.failed], [run for run in every if run.broke]
    well = [run for run in every if not run.failed]
    saved = f"{sum(run.saved for run in broke) / len(broke):.0%}" if broke else ""
    stopped = sum(run.reason is not None for run in broke)
    wrongly = sum(run.reason is not None for run in well)
    counts = (len(every), len(failed), sum(run.broke for run in failed), stopped, saved, len(well), wrongly)
    return " | ".join(map(str, counts))


def _share(stopped: Sequence[bool], label: str) -> str:
    if not stopped:
        return f"{label}: no such runs.  "
    low, high = wilson_interval(sum(stopped) / len(stopped), len(stopped))
    interval = f"[{max(low, 0):.1%}, {high:.1%}]"
    return f"{label}: {sum(stopped)} of {len(stopped)}, {sum(stopped) / len(stopped):.1%} {interval}.  "
