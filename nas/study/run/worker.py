"""One worker: draws trials, trains them, stores what came out, until the study is done or it is told to stop."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import optuna
from optuna.pruners import NopPruner
from optuna.trial import Trial, TrialState, create_trial

from nas.architecture import Architecture
from nas.errors import NasError, UserError
from nas.measurement import EpochRecord, Interrupted, Outcome
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.study.goals import REFUSED, cost_quantities
from nas.study.optuna_private import id_of
from nas.study.run.checkpoints import LANDMARK_ATTR, CheckpointFolder
from nas.study.run.cleaning import clean
from nas.study.run.heartbeat import Heartbeat
from nas.study.run.stop import StopFlag
from nas.study.run.tracked import tracked_parameters, tracking_of
from nas.study.search.enqueued import enqueued_network
from nas.study.search.evolution import STOPPED_ATTR
from nas.study.search.pruners import first_look, make_pruner
from nas.study.search.rungs import STOPPED, Rungs
from nas.study.search.sampler import FusionSampler, SpaceExhausted, distributions
from nas.study.store.deaths import refuse_deaths
from nas.study.store.errors import connection_lost, explained, survive
from nas.study.store.leases import LeaseLost, put_back, sweep
from nas.study.store.lock import drawing
from nas.study.store.optuna_storage import close_storage, open_storage
from nas.study.store.reader import Study
from nas.study.store.rungs import StoredRungs
from nas.study.store.trials import Ledger, new_worker_id
from nas.study.store.workers import Watch, give_sign, join, leave
from nas.training.tracking import TrackedRun

if TYPE_CHECKING:
    from nas.study.run.training import Measure

MAX_FAILURES_IN_A_ROW = 3
POLL_S = (0.2, 1.0)
"""First and longest pause between two looks of a worker that stays with nothing to do: it hears of Ctrl-C in time."""


class Worker:
    """Works on one study in this process; ``measure`` trains the candidates."""

    def __init__(
        self,
        study: Study,
        measure: "Measure",
        *,
        stop: StopFlag,
        worker_id: str | None = None,
    ) -> None:
        candidates = study.candidates()
        self._record = study
        self.url = study.url
        self.measure = measure
        self.stop = stop
        self.config = study.settings
        self.space = SearchSpace.from_dict(study.space)
        self.checkpoints = CheckpointFolder(study)
        self.tracking = tracking_of(study, self.config)
        self.storage = open_storage(study.url)
        self.engine = self.storage.engine
        self.ledger = Ledger(self.engine, study.study_id, worker_id or new_worker_id())
        self.watch = Watch()
        self.goals = self.config.goals
        self.sampler = FusionSampler(
            self.space,
            self.config.sampler,
            self.config.seed,
            claim=self._claim,
            owned=self.ledger.owned,
            finalists=candidates.ranking() if candidates else (),
        )
        pruner, epochs = self.config.pruner, self.config.training.epochs
        self.pruner = NopPruner() if self.goals.several else make_pruner(pruner, epochs)
        self._first_look = first_look(pruner, epochs)
        by_rungs = self.goals.several and pruner.name == STOPPED
        self._stored_rungs = StoredRungs(self.engine, study.study_id)
        self.rungs = Rungs(self._stored_rungs, self.goals, pruner, epochs) if by_rungs else None
        self._promotions = self._stored_rungs.promotions() if by_rungs else set()
        self.study = optuna.load_study(
            study_name=study.name, storage=self.storage, sampler=self.sampler, pruner=self.pruner
        )
        self._distributions = distributions(self.space)
        self._failures_in_a_row = 0
        self._over = False
        """Whether no trial could be put back or promoted when this worker looked for one."""

    def run(self, max_trials: int | None = None, *, stay: bool = False) -> int:
        """Work until nothing is left, ``max_trials`` are done or the stop flag is set; returns trials done.

        Args:
            stay: wait also for what others train: what they put back, or die with, is left for this worker.
        """
        done = 0
        with ExitStack() as end, explained(self.url):
            end.callback(close_storage, self.storage)
            join(self.engine, self.ledger.study_id, self.ledger.worker_id, self.measure.device)
            with Heartbeat(partial(give_sign, self.engine, self.ledger.worker_id)):
                while (max_trials is None or done < max_trials) and not self.stop():
                    try:
                        trial = self._next_trial()
                        if trial is not None:
                            done += self._work_on(trial)
                        elif stay and not self._over:
                            self._wait_for_others()
                        else:
                            break
                    except Interrupted:  # while it waited for the lock or the database
                        break
                    except Exception as error:  # only a lost connection is survived, see below
                        self._survive(error)
            leave(self.engine, self.ledger.worker_id)
        return done

    def _survive(self, error: Exception) -> None:
        """Wait for a database server that went away, and put back what this worker held; raise anything else."""
        if not connection_lost(self.url, error):
            if isinstance(error, NasError):  # it has put its trial back
                leave(self.engine, self.ledger.worker_id)
            raise error
        survive(self.engine, self.url, self._put_all_back, self.stop)

    def _put_all_back(self) -> None:
        for trial_id in self.ledger.held():
            self._put_back(trial_id)

    def _put_back(self, trial_id: int) -> None:
        put_back(self.engine, trial_id, self.ledger.worker_id)

    def _sweep(self) -> None:
        sweep(self.engine, self.ledger.study_id, self.watch)

    def _next_trial(self) -> Trial | None:
        """A trial of which this worker holds the lease, None where the study has no more work."""
        self._sweep()
        refuse_deaths(self.engine, self.ledger.study_id)
        with drawing(self.url, self.ledger.study_id, self.stop):  # two that see the last free place would both take it
            self.ledger.adopt_waiting()
            self._refresh()
            # Read before anybody is promoted: what ends later may promote one that was stopped.
            self._over = not self._unfinished()
            if not self.ledger.any_in("WAITING") and self.rungs is not None and self.rungs.promote():
                self._refresh()
            if not self.ledger.any_in("WAITING"):
                if self.ledger.full():
                    self._clean(over=self._over)
                    return None
                self.storage.create_new_trial(self.ledger.study_id, create_trial(state=TrialState.WAITING))
                self.ledger.adopt_waiting()
            return self._take()

    def _take(self) -> Trial:
        """The trial that has waited longest; it is leased before it runs, so that no crash leaves it to nobody."""
        leased = self.ledger.take_waiting()
        trial = self.study.ask()
        if id_of(trial) != leased:  # a program of the user's has asked Optuna in between
            self.ledger.release(leased)
            self.ledger.lease(id_of(trial))
        return trial

    def _unfinished(self) -> bool:
        """Whether a trial may yet be put back or promoted."""
        return self.ledger.any_in("RUNNING", "WAITING") or self.ledger.any_leased()

    def _wait_for_others(self) -> None:
        """Until a trial waits again, all have ended, or the stop flag is set."""
        pause, longest = POLL_S
        while not self.stop() and self._unfinished() and not self.ledger.any_in("WAITING"):
            time.sleep(pause)
            pause = min(1.2 * pause, longest)
            self._sweep()

    def _refresh(self) -> None:
        """Look again at trials that had ended and were promoted, by this worker or another."""
        if self.rungs is not None and (new := self._stored_rungs.promotions() - self._promotions):
            self._promotions |= new
            self.storage.read_again({trial_id for trial_id, _ in new})

    def _work_on(self, trial: Trial) -> bool:
        """Draw, train and store one trial; False where it was handed over to another worker."""
        try:
            with self.storage.fenced(id_of(trial), self.ledger.worker_id):
                self._do(trial)
            self._failures_in_a_row = 0
        except Interrupted:
            self._put_back(id_of(trial))
            return False
        except LeaseLost:
            return False
        except NasError:  # nothing is wrong with the candidate
            self._put_back(id_of(trial))
            raise
        except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:  # torch's errors among them
            if not self._note_failure(trial, error):
                return False
        self.ledger.release(id_of(trial))
        return True

    def _do(self, trial: Trial) -> None:
        """What a trial of this study is there for, stored and told."""
        architecture = self._architecture(trial)
        if architecture is not None and self._allowed(trial, architecture):
            self._measure(trial, architecture)

    def _note_failure(self, trial: Trial, error: Exception) -> bool:
        """Store what went wrong; False where the trial is another's by now, or was ended by no worker.

        Where trial after trial fails, the fault is not the candidates'.
        """
        if not self.ledger.holds(id_of(trial)):
            return False
        if self.storage.get_trial(id_of(trial)).state.is_finished():  # a program of the user's has ended it
            self.ledger.release(id_of(trial))
            return False
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        self._fail(trial, reason)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self.ledger.release(id_of(trial))
            raise NasError(f"{MAX_FAILURES_IN_A_ROW} trials in a row failed, the last with {reason}") from error
        return True

    def _claim(self, trial_id: int, architecture: Architecture) -> bool:
        return self.ledger.own(trial_id, architecture) == trial_id

    def _architecture(self, trial: Trial) -> Architecture | None:
        """What the trial is to train; None where another trial owns it and this one has ended."""
        name = trial.user_attrs.get(LANDMARK_ATTR)
        trial_id = id_of(trial)
        # What an attempt that was broken off has claimed stays this trial's, whatever was drawn since.
        architecture = self.ledger.owned(trial_id) or (landmark_in(self.space, str(name)) if name else None)
        try:
            architecture = architecture or enqueued_network(self.space, self.storage.get_trial(trial_id))
        except UserError as error:
            self._fail(trial, f"enqueued: {error}")
            return None
        if architecture is None:
            try:
                params = trial.relative_params  # drawn, and claimed for this trial
            except SpaceExhausted as error:
                self._fail(trial, str(error))
                self.ledger.want_no_more(trial_id)
                return None
            architecture = self.space.decode(lambda choice, _: params[choice])
        else:
            params = self.space.encode(architecture) or {}  # a landmark may lie outside the space
            owner = self.ledger.own(trial_id, architecture, name)
            if owner != trial_id:
                number = self.storage.get_trial(owner).number
                self._fail(trial, f"duplicate of trial {number}")
                return None
        if params and not trial.params:
            self.ledger.set_parameters(trial_id, {key: (params[key], self._distributions[key]) for key in params})
        return architecture

    def _allowed(self, trial: Trial, architecture: Architecture) -> bool:
        """Whether the constraints that are known before training let it be trained; False where they end the trial."""
        if not self.config.known_costs:
            return True
        known = self.ledger.cost(id_of(trial))
        broken = known[1] if known else self._price(trial, architecture)
        if broken is not None:
            self.ledger.fail(id_of(trial), f"{REFUSED}: {broken}")
            self.study.tell(trial, state=TrialState.PRUNED)
        return broken is None

    def _price(self, trial: Trial, architecture: Architecture) -> str | None:
        """Store what a network costs; returns the constraint that it breaks. The plain network is always trained."""
        known = self.measure.cost(architecture)
        if known.plain.latency_ms is not None:
            known = known.on_clock(self.ledger.latency_clock(known.plain.latency_ms))
        values, plain = cost_quantities(known.fused), cost_quantities(known.plain)
        limits = [limit for limit in self.config.limits if limit.known_before]
        self._tell_constraints(trial, {str(limit): limit.excess(values, plain) for limit in limits})
        texts = (limit.broken_text(values, plain) for limit in limits if limit.excess(values, plain) > 0)
        broken = None if architecture.is_plain else next(texts, None)
        self.ledger.record_cost(id_of(trial), known, broken)
        return broken

    def _tell_constraints(self, trial: Trial, values: Mapping[str, float]) -> None:
        """Tell the sampler by how much each constraint is broken, once: an earlier attempt may have told it."""
        told = self.storage.get_trial(id_of(trial)).constraints
        for name in values.keys() - told.keys():
            trial.set_constraint(name, values[name])

    def _fail(self, trial: Trial, reason: str) -> None:
        self.ledger.fail(id_of(trial), reason)
        self.study.tell(trial, state=TrialState.FAIL)

    def _measure(self, trial: Trial, architecture: Architecture) -> None:
        seed, budget = self.config.seed, self.config.training.epochs
        result = self.ledger.measured(architecture.digest, seed, budget)
        if result is None:
            with self.tracking.run(trial.number, tracked_parameters(trial, architecture)) as run:
                measurement = self.measure(
                    architecture,
                    on_epoch=self._epoch_hook(trial, run),
                    should_stop=self.stop,
                    checkpoint=self.checkpoints.place(trial.number),
                )
                run.finish(measurement)
            self.ledger.finish(id_of(trial), architecture.digest, measurement)
            result = (measurement.outcome, measurement.score)
        self._tell(trial, *result)
        self._clean()

    def _clean(self, *, over: bool = False) -> None:
        """Remove the files that no trial needs any more; where all is ``over``, of trials that a rung stopped too."""
        clean(self.checkpoints, self._record, lambda: self.study.get_trials(deepcopy=False), over=over)

    def _epoch_hook(self, trial: Trial, run: TrackedRun) -> Callable[[EpochRecord], str | None]:
        """Stores and reports each epoch; answers with the pruner's name where it wants to stop."""
        is_landmark = LANDMARK_ATTR in trial.user_attrs
        last = self.config.training.epochs - 1

        def on_epoch(epoch: EpochRecord) -> str | None:
            # Optuna takes no reports with several objectives.
            report = None if self.goals.several else getattr(epoch, self.goals.leading)
            self.ledger.record_epoch(id_of(trial), self.config.seed, epoch, report=report)
            run.epoch(epoch)
            if is_landmark or epoch.epoch == last or self._goes_on(trial, epoch):
                return None
            return self.config.pruner.name

        return on_epoch

    def _goes_on(self, trial: Trial, epoch: EpochRecord) -> bool:
        if self.rungs is not None:
            return self.rungs.goes_on(id_of(trial), epoch.epoch + 1)
        if self.goals.several or epoch.epoch + 1 < self._first_look:
            return True
        # As it is stored: the trial that Optuna keeps in memory has not heard of what the ledger reported. What a
        # broken-off attempt reported of later epochs does not count yet.
        stored = self.storage.get_trial(id_of(trial))
        known = stored.intermediate_values.items()
        stored.intermediate_values = {step: value for step, value in known if step <= epoch.epoch + 1}
        return not self.pruner.prune(self.study, stored)

    def _tell(self, trial: Trial, outcome: Outcome, score: float | None) -> None:
        epochs, known = self.ledger.known(id_of(trial))
        if score is not None:
            known["val_accuracy"] = score
        values = [known.get(name, math.nan) for name in self.goals.names]
        if outcome is Outcome.COMPLETE and all(map(math.isfinite, values)):
            limits = [limit for limit in self.config.limits if not limit.known_before]
            self._tell_constraints(trial, {str(limit): limit.excess(known, {}) for limit in limits})
            self.study.tell(trial, values)
            return
        if outcome is Outcome.STOPPED and self.goals.several:
            trial.set_user_attr(STOPPED_ATTR, {"epochs": epochs, "values": values})
        self.study.tell(trial, state=TrialState.PRUNED)
