"""Does the runs of calibrations that belong to no study, in processes of this machine."""

import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.result_file import FileStore
from nas.errors import NasError
from nas.estimate.calibration.judge import conclude
from nas.estimate.calibration.runner import Runner
from nas.estimate.calibration.runs import Result, Run
from nas.estimate.calibration.task import CalibrationTask
from nas.estimate.ranking import Calibration
from nas.study.launch import processes

_runner: Runner | None = None


def _start_worker(task: CalibrationTask, folder: Path) -> None:
    global _runner  # noqa: PLW0603  # one runner for each worker process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    _runner = Runner(task, folder=folder, should_stop=processes.orphan_alarm())


def _do(run: Run) -> Result:
    if _runner is None:
        raise RuntimeError("the worker was not started")
    return _runner.do(run).result


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a calibration is."""

    done: int
    total: int
    """Runs."""
    share: float
    """Of all epochs."""
    left_s: float | None
    """Seconds to go at the rate so far; None before the first run has ended."""


def calibrate(
    task: CalibrationTask,
    store: FileStore,
    *,
    workers: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> Calibration:
    """Do the runs that the store does not hold, in ``workers`` processes of one thread each, and judge.

    Ctrl-C ends the workers at once; the runs that had ended are in the store.
    """
    results = dict(store.results(task.digest))
    runs = task.runs
    pending = [run for run in runs if run.key not in results]
    total, started = sum(run.effort for run in runs), time.monotonic()
    at_first = left = sum(run.effort for run in pending)

    def report() -> None:
        if on_progress is not None:
            elapsed, now_done = time.monotonic() - started, at_first - left
            on_progress(
                Progress(
                    done=len(results.keys() & {run.key for run in runs}),
                    total=len(runs),
                    share=1 - left / total,
                    left_s=elapsed * left / now_done if now_done else None,
                )
            )

    report()
    with tempfile.TemporaryDirectory() as folder:
        for run, result in _done_runs(task, pending, workers, Path(folder)):
            store.add(task.digest, run.key, result)
            results[run.key] = result
            left -= run.effort
            report()
    return conclude(task, results)


def _done_runs(task: CalibrationTask, runs: Sequence[Run], workers: int, folder: Path) -> Iterator[tuple[Run, Result]]:
    """Each run with its result, in the order in which they end."""
    task = replace(task, training=task.training.model_copy(update={"threads": task.training.threads or 1}))
    if workers == 1:
        runner = Runner(task, folder=folder)
        yield from ((run, runner.do(run).result) for run in runs)
        return
    processes.warm_up()
    start = {"mp_context": processes.CONTEXT, "initializer": _start_worker, "initargs": (task, folder)}
    with ProcessPoolExecutor(workers, **start) as pool:
        try:
            futures = {pool.submit(_do, run): run for run in runs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise NasError("a worker of the calibration died; the same command goes on from what is stored") from None
        except BaseException:  # Ctrl-C too: no worker outlives the calibration, and the error goes on
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
