"""Running workers with progress on standard error, and watching a study."""

import signal
import time
from collections.abc import Callable, Sequence

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from nas.cli.options import INTERRUPTED
from nas.errors import StorageError
from nas.report.summary import Summary, counts_text, duration_text, summarise, summary_text
from nas.study.engines import Engine, Workers
from nas.study.launch import sweep_study
from nas.study.records import Study
from nas.study.storage import DEFAULT_URL, RECONNECT_S, connection_lost, redact

POLL_S = 0.5
PLAIN_EVERY_S = 10.0


def say(text: str) -> None:
    """One line on standard error."""
    typer.echo(text, err=True)


def work(study: Study, engine: Engine, limit_s: float | None) -> int:
    """Train what is left of a study with the workers of an engine; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end is an end like Ctrl-C
    sweep_study(study)
    before = summarise(study)
    if before.done:
        say(f"study {study.name!r} has its {before.target} trials; nothing to do")
        say(f"add some with: nas resume {study.name} --trials N{_storage_hint(study)}")
        typer.echo(summary_text(before))
        _write_results(study)
        return 0
    count = min(engine.num_workers, before.target - before.ended)
    say(f"study {study.name!r}: {before.target - before.ended} trials to do, {count} worker{'s' if count > 1 else ''}")
    deadline = time.time() + limit_s if limit_s else None
    workers = engine.start(study, count, deadline)
    interrupted = False
    try:
        with workers:
            _follow(study, workers)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        sweep_study(study, workers.killed)
    after = summarise(study)
    typer.echo(summary_text(after))
    if interrupted or not after.done:
        why = "interrupted" if interrupted else "stopped before the end"
        say(f"{why}, running trials wait again; go on with: nas resume {study.name}{_storage_hint(study)}")
        return INTERRUPTED if interrupted else 0
    _write_results(study)
    return 0


def _write_results(study: Study) -> None:
    """Write the best architecture and the report, and say where they are."""
    from nas.export.files import export_architecture
    from nas.report.page import write_report

    if study.best() is None:
        return
    best, page, model = (study.folder / name for name in ("best.yaml", "report.html", "timm"))
    export_architecture(study, "best", best)
    write_report(study, page)
    typer.echo(f"best network   {best}")
    typer.echo(f"report         {page}")
    say(f"for timm       nas export {study.name}{_storage_hint(study)} --format timm -o {model}")


def _storage_hint(study: Study) -> str:
    return "" if study.url == DEFAULT_URL else f" --storage {redact(study.url)}"


def _follow(study: Study, workers: Workers) -> None:
    """Show progress until all workers have ended; raises what a failed worker said, if work is left."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            done = _watch(study, workers, lambda summary: live.update(Text(progress_line(summary))))
    else:
        done = _watch(study, workers, _PlainLines())
    if not done:
        workers.raise_failure()


def _watch(study: Study, workers: Workers, show: Callable[[Summary], object]) -> bool:
    """Poll until no worker runs, also none that replaced a killed one; whether the study is done."""
    while True:
        ended = not workers.num_running
        summary = _poll(study, workers)
        show(summary)
        if ended and not workers.num_running:
            return summary.done
        time.sleep(POLL_S)


class _PlainLines:
    """In a pipe or a log: one line now and then, when something has changed."""

    def __init__(self) -> None:
        self._last, self._shown_at = "", 0.0

    def __call__(self, summary: Summary) -> None:
        if counts_text(summary) != self._last and time.monotonic() - self._shown_at >= PLAIN_EVERY_S:
            self._last, self._shown_at = counts_text(summary), time.monotonic()
            say(progress_line(summary))


def _poll(study: Study, workers: Workers) -> Summary:
    summary = _patient_summary(study)
    for line in [] if summary.done else workers.mend():
        say(line)
    return summary


def _patient_summary(study: Study) -> Summary:
    """The summary; while a database server is away, wait for it as long as the workers do."""
    end = time.monotonic() + RECONNECT_S
    while True:
        try:
            return summarise(study)
        except StorageError as error:
            if not connection_lost(study.url, error) or time.monotonic() > end:
                raise
            time.sleep(1.0)


def progress_line(summary: Summary) -> str:
    """State, best, plain, rate and time left in one line."""
    parts = [counts_text(summary)]
    if summary.best and summary.best.score is not None:
        parts.append(f"best {summary.best.score:.4f} (#{summary.best.number})")
    if summary.plain and summary.plain.score is not None:
        parts.append(f"plain {summary.plain.score:.4f}")
    if summary.trials_per_minute and summary.left_s is not None:
        parts.append(f"{summary.trials_per_minute:.1f} trials/min")
        parts.append(f"{duration_text(summary.left_s)} left")
    return " · ".join(parts)


def watch_status(studies: Sequence[Study]) -> int:
    """Refresh the summaries until interrupted or done."""
    console = Console()
    if not console.is_terminal:
        typer.echo("\n\n".join(summary_text(summarise(study)) for study in studies))
        return 0
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            summaries = [summarise(study) for study in studies]
            live.update(Text("\n\n".join(summary_text(summary) for summary in summaries)))
            if all(summary.done for summary in summaries):
                return 0
            time.sleep(1.0)
