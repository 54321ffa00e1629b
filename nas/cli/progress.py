"""Running workers with progress on standard error, and watching a study."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import typer
from rich.console import Console
from rich.live import Live

from nas.cli.options import INTERRUPTED
from nas.errors import StorageError
from nas.report.live import screen
from nas.report.summary import Summary, summarise
from nas.report.summary_text import ENDED_EARLY, counts_text, pace_text, summary_text
from nas.study.doctor import sweep_study
from nas.study.launch.engines import Engine, Workers
from nas.study.results import BEST, FRONT, REPORT, TIMM
from nas.study.store.errors import RECONNECT_S, connection_lost
from nas.study.store.hints import command_line
from nas.study.store.reader import Study
from nas.study.store.studies import begin_anew

POLL_S = (0.5, 5.0)
"""Least and greatest rest between two looks; between them twenty times the CPU time of a look."""
MORE_TRIALS = 10
"""What a finished study is offered."""
LINES_S = (10.0, 300.0)
"""Least and greatest distance of two lines in a log; between them a twentieth of the time so far."""


def say(text: str) -> None:
    """One line on standard error."""
    typer.echo(text, err=True)


def work(study: Study, engine: Engine, deadline: float | None) -> int:
    """Train what is left of a study with the workers of an engine.

    Returns the exit code: 1 where the search has ended without a network that could be exported.
    """
    after = run_workers(study, engine, deadline, title=f"study {study.name!r}", look=partial(summarise, study))
    if after.num_workers == 0:
        say(f"study {study.name!r} has its {after.summary.target} trials; nothing to do")
        say(f"add {MORE_TRIALS} with: {_more(study)}")
    typer.echo(summary_text(after.summary))
    if not after.summary.done or after.interrupted:
        on = command_line("resume", study.name, url=study.url)
        say(f"{after.why}, running trials wait again; go on with: {on}")
        return after.exit_code or int(after.summary.best is None)
    return _conclude(study, after.summary)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the work of an engine's workers has ended."""

    summary: Summary
    num_workers: int
    """That were started; 0 where there was nothing to do."""
    interrupted: bool
    """By Ctrl-C."""
    out_of_time: bool
    """Whether the deadline has passed."""

    @property
    def why(self) -> str:
        """Why something is left to do, for people."""
        return "interrupted" if self.interrupted else "stopped before the end"

    @property
    def exit_code(self) -> int:
        """Of a command whose work is not done; 0 where it was asked for no more than there was time for."""
        return INTERRUPTED if self.interrupted else int(not self.out_of_time)


def run_workers(
    study: Study,
    engine: Engine,
    deadline: float | None,
    *,
    title: str,
    look: Callable[[], Summary],
    parts: Sequence[Study] = (),
) -> Ended:
    """Do what is left of a study, or of its companion studies, with the workers of an engine; shows how far it is.

    Args:
        study: what dead workers held of it, and of its companions, is put back before and after.
        deadline: moment after which the workers put their trials back.
        title: what is done, for people.
        look: reads how far it is.
        parts: the companion studies that are worked on instead of ``study``.

    Raises:
        NasError: what a worker said that failed, if work is left.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end is an end like Ctrl-C
    sweep_study(study)
    before = look()
    left = max(before.target - before.ended, before.states.get("waiting", 0))
    if before.done:
        return Ended(summary=before, num_workers=0, interrupted=False, out_of_time=False)
    begin_anew(study)
    count = min(engine.num_workers, left)
    say(f"{title}: {left} {before.unit}s to do, {count} worker{'s' if count > 1 else ''}")
    workers = engine.start(parts[0] if parts else study, count, deadline)
    interrupted = False
    try:
        with workers:
            _follow(look, study.url, workers)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        sweep_study(study, workers.excused)
    out_of_time = deadline is not None and time.time() > deadline
    return Ended(summary=look(), num_workers=count, interrupted=interrupted, out_of_time=out_of_time)


def _conclude(study: Study, summary: Summary) -> int:
    """Write the results of a study that is done, or say that it has none; returns the exit code."""
    if summary.best is not None:
        _write_results(study)
        return 0
    reason = max(summary.reasons, key=lambda text: summary.reasons[text], default="no reason is stored")
    say(
        f"study {study.name!r} ended without a result: none of its {summary.ended} trials is complete, most often "
        f"because: {reason}; see {command_line('trials', study.name, url=study.url)}, mend the cause, then train "
        f"others with: {_more(study)}"
    )
    return 1


def _more(study: Study) -> str:
    return command_line("resume", study.name, "--trials", study.num_wanted + MORE_TRIALS, url=study.url)


def _write_results(study: Study) -> None:
    """Write the best architecture and the report, and say where they are."""
    from nas.export.files import export_architecture
    from nas.report.answer import export_command
    from nas.report.page import write_report

    best, page, model = (study.folder / name for name in (BEST, REPORT, TIMM))
    export_architecture(study, "best", best)
    write_report(study, page)
    typer.echo(f"best network   {best}")
    typer.echo(f"report         {page}")
    if study.settings.goals.several:
        say(f"for the front  {export_command(study, study.folder / FRONT)}")
    say(f"for timm       {command_line('export', study.name, '--format', 'timm', '-o', model, url=study.url)}")


def _follow(look: Callable[[], Summary], url: str, workers: Workers) -> None:
    """Show progress until no worker runs, also none that replaced a killed one.

    Raises what a failed worker said, if work is left.
    """
    with display(Console(stderr=True), transient=True) as show:
        while True:
            ended, began = not workers.num_running, time.process_time()
            summary = _patient(look, url)
            for line in [] if summary.done else workers.mend():
                say(line)
            show([summary])
            if ended and not workers.num_running:
                break
            _rest(began)
    if not summary.done:
        workers.raise_failure()


def watch_status(studies: Sequence[Study]) -> int:
    """Show studies until they are done; in a pipe also until nobody works on them."""
    console = Console()
    with display(console, transient=False) as show:
        while True:
            began = time.process_time()
            summaries = [_patient(partial(summarise, study), study.url) for study in studies]
            show(summaries)
            waiting = is_live(console) or any(summary.workers for summary in summaries)
            if all(summary.done for summary in summaries) or not waiting:
                break
            _rest(began)
    if not is_live(console):
        console.file.write("\n\n".join(summary_text(summary) for summary in summaries) + "\n")
    return 0


def is_live(console: Console) -> bool:
    """Whether the screen can be redrawn: a terminal with a person in front of it, no pipe and no CI log."""
    return console.is_interactive and not os.environ.get("CI")


@contextmanager
def display(console: Console, *, transient: bool) -> Iterator[Callable[[Sequence[Summary]], None]]:
    """What shows summaries: one screen that is redrawn, or plain lines now and then."""
    if not is_live(console):
        yield _PlainLines(console)
        return
    with Live(console=console, refresh_per_second=4, transient=transient) as live:
        yield lambda summaries: live.update(screen(summaries, console.height))


class _PlainLines:
    """In a pipe or a log: a line for each study that has changed, at growing distances."""

    def __init__(self, console: Console) -> None:
        self._file = console.file
        self._began = time.monotonic()
        self._next_at = 0.0
        self._last: list[str] = []

    def __call__(self, summaries: Sequence[Summary]) -> None:
        now, counts = time.monotonic(), [counts_text(summary) for summary in summaries]
        if counts == self._last or now < self._next_at:
            return
        self._last, self._next_at = counts, now + min(LINES_S[1], max(LINES_S[0], (now - self._began) / 20))
        for summary in summaries:
            name = f"{summary.name}: " if len(summaries) > 1 else ""
            print(name + progress_line(summary), file=self._file, flush=True)


def _rest(began: float) -> None:
    """Sleep until the next look: reading a large study may take no more than a small part of a core."""
    time.sleep(min(POLL_S[1], max(POLL_S[0], 20 * (time.process_time() - began))))


def _patient(look: Callable[[], Summary], url: str) -> Summary:
    """What ``look`` reads; while a database server is away, wait for it as long as the workers do."""
    end = time.monotonic() + RECONNECT_S
    while True:
        try:
            return look()
        except StorageError as error:
            if not connection_lost(url, error) or time.monotonic() > end:
                raise
            time.sleep(1.0)


def progress_line(summary: Summary) -> str:
    """State, best, plain, rate and time left in one line."""
    parts = [counts_text(summary)]
    if summary.best and summary.best.score is not None:
        parts.append(f"best {summary.best.score:.4f} (#{summary.best.number})")
    if summary.plain and summary.plain.score is not None:
        stopped = " (stopped)" if summary.plain.state in ENDED_EARLY else ""
        parts.append(f"plain {summary.plain.score:.4f}{stopped}")
    if pace := pace_text(summary):
        parts.append(pace)
    return " · ".join(parts)
