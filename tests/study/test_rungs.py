"""Successive halving with several objectives on planted trials: who is stopped, who is promoted, nothing twice."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas.architecture import Architecture
from nas.fusion.cost import CostComparison
from nas.measurement import Cost, EpochRecord, Measurement, Outcome
from nas.study.config import StudyConfig
from nas.study.launch.create import create_study, set_target
from nas.study.pareto import losses_of
from nas.study.run.checkpoints import CheckpointFolder
from nas.study.run.stop import StopFlag
from nas.study.run.training import OnEpoch
from nas.study.run.worker import Worker
from nas.study.store.optuna_storage import TrialStorage, close_storage, open_storage
from nas.study.store.reader import Study, open_study
from tests.study.conftest import SUMMARY

EPOCHS = 9


class Planted:
    """Trains nothing: a network's accuracy and cost follow from its digest. Its checkpoint counts epochs."""

    device = "cpu"

    def __init__(self) -> None:
        self.trained: list[tuple[str, int]] = []
        """(digest, epoch): every epoch that was run."""

    def cost(self, architecture: Architecture) -> CostComparison:
        params = 1000 if architecture.is_plain else 1000 + int(architecture.digest[8:12], 16) % 500
        fused, plain = Cost(num_params=params, macs=params, latency_ms=params / 500), Cost(num_params=1000, macs=1000)
        return CostComparison(fused=fused, plain=plain, input_size=(1, 8, 8), batch=1, device=self.device, threads=1)

    def accuracy(self, architecture: Architecture, epoch: int) -> float:
        return int(architecture.digest[:4], 16) / 0xFFFF * (epoch + 1) / EPOCHS

    def __call__(
        self, architecture: Architecture, *, on_epoch: OnEpoch, should_stop: Callable[[], bool], checkpoint: Path
    ) -> Measurement:
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        epochs = [self._epoch(architecture, e) for e in range(EPOCHS)]
        reason = on_epoch(epochs[done - 1]) if done else None
        while done < EPOCHS and reason is None:
            self.trained.append((architecture.digest, done))
            reason = on_epoch(epochs[done])
            done += 1
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text(str(done))
        return Measurement(
            outcome=Outcome.STOPPED if reason else Outcome.COMPLETE,
            reason=reason,
            score=epochs[done - 1].val_accuracy,
            seed=0,
            budget=EPOCHS,
            num_params=1,
            macs=1,
            wall_s=1.0,
            epochs=tuple(epochs[:done]),
        )

    def _epoch(self, architecture: Architecture, epoch: int) -> EpochRecord:
        return EpochRecord(
            epoch=epoch,
            train_loss=1.0,
            val_loss=1.0,
            val_accuracy=self.accuracy(architecture, epoch),
            learning_rate=0.1,
            grad_norm=1.0,
            train_s=1.0,
            val_s=1.0,
        )


def made(url: str, **content: object) -> Study:
    config = {
        "name": "s",
        "space": "patterns",
        "training": {"epochs": EPOCHS},
        "objectives": {"val_accuracy": "maximize", "params": "minimize"},
        "sampler": "random",
        "landmarks": ["plain"],
        "trials": 24,
        **content,
    }
    return create_study(StudyConfig.parse(config, "test"), "", url, lambda _: SUMMARY)


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """Where the kind of the database plays no part."""
    return f"sqlite:///{tmp_path / 'nas.db'}"


def work(study: Study, planted: Planted, trials: int | None = None) -> None:
    Worker(study, planted, stop=StopFlag()).run(trials)


def outcome(study: Study) -> dict[str | None, tuple[str, int]]:
    return {t.digest: (t.state, len(t.epochs)) for t in study.trials()}


def test_a_rung_lets_one_in_three_go_on_and_nothing_is_trained_twice(url: str) -> None:
    study, planted = made(url), Planted()
    work(study, planted)
    trials = study.trials()
    assert [t.state for t in trials if t.state not in ("complete", "pruned")] == []
    assert max(Counter(planted.trained).values()) == 1
    reached = Counter(len(t.epochs) for t in trials)
    assert set(reached) == {1, 3, 9}
    at_three = reached[3] + reached[9]
    assert at_three == pytest.approx(24 / 3, abs=1)
    assert reached[9] == pytest.approx(at_three / 3, abs=1)
    assert {t.reason for t in trials if t.state == "pruned"} == {"asha"}


def test_what_was_stopped_too_early_is_promoted_and_goes_on(file_url: str) -> None:
    """The second trial is stopped for want of company, and promoted once it is among the best of many."""
    study, planted = made(file_url), Planted()
    work(study, planted, 6)
    early = {t.number for t in study.trials() if t.reason == "asha"}
    work(study, planted)
    late = {t.number for t in study.trials() if len(t.epochs) > 1}
    assert early & late, "nobody was promoted"
    assert max(Counter(planted.trained).values()) == 1


def test_the_chosen_are_the_best_by_both_objectives(file_url: str) -> None:
    study = made(file_url)
    work(study, Planted())
    trials, goals = study.trials(), study.settings.goals
    front = study.front()
    assert len(front) > 1
    assert all(t.state == "complete" for t in front)
    for member in front:
        rivals = [t for t in trials if t.state == "complete" and t is not member]
        mine, *others = losses_of(goals, [goals.values(t.values) for t in (member, *rivals)])
        assert not any((other <= mine).all() and (other < mine).any() for other in others)


def test_one_worker_broken_off_gives_what_one_gives_that_was_not(tmp_path: Path) -> None:
    """Leaving after every few trials, with the rungs half filled, changes nothing."""
    whole, parts = (made(f"sqlite:///{tmp_path / name}.db") for name in ("whole", "parts"))
    work(whole, Planted())
    planted = Planted()
    while parts.num_ended() < parts.target:
        work(parts, planted, 5)
    work(parts, planted)
    assert outcome(parts) == outcome(whole)
    assert max(Counter(planted.trained).values()) == 1


def test_many_workers_at_once(url: str) -> None:
    study, planted = made(url), Planted()
    workers = [threading.Thread(target=work, args=(study, planted)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = study.trials()
    assert len(trials) == 24
    assert {t.state for t in trials} == {"complete", "pruned"}
    assert max(Counter(planted.trained).values()) == 1
    assert {len(t.epochs) for t in trials} <= {1, 3, 9}
    assert sum(t.state == "complete" for t in trials) >= 2


def test_a_promoted_trial_of_a_worker_that_left_is_taken_by_another(url: str) -> None:
    study, planted = made(url), Planted()
    leaving, other = (Worker(study, planted, stop=StopFlag()) for _ in range(2))
    assert leaving.rungs is not None
    promoted = False
    while not promoted:
        work(study, planted, 1)
        other.study.get_trials(deepcopy=False)  # its memory holds the stopped trials as ended
        promoted = leaving.rungs.promote()
    close_storage(leaving.storage)
    waiting = next(t for t in study.trials() if t.state == "waiting" and t.epochs)
    assert other.run(1) == 1
    assert len(study.trial(waiting.number).epochs) > len(waiting.epochs)


def test_after_a_promotion_the_promoted_trial_is_read_again_and_no_other(
    file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search with several promotions in which each look at the study reads what has not ended, and little more."""
    study, counts = made(file_url), []
    read = TrialStorage.read_trials

    def counted(storage: TrialStorage, *args: int, **more: Any) -> list[optuna.trial.FrozenTrial]:
        trials = read(storage, *args, **more)
        counts.append(len(trials))
        return trials

    monkeypatch.setattr(TrialStorage, "read_trials", counted)
    work(study, Planted())
    assert len(study.promotions()) > 2
    assert max(counts) <= 3  # the landmark, the trial that runs, one that is promoted


def test_nobody_is_promoted_whose_worker_is_about_to_end_the_trial(url: str) -> None:
    study, planted = made(url), Planted()
    worker = Worker(study, planted, stop=StopFlag())
    assert worker.rungs is not None
    while not (stopped := list(worker._stored_rungs.stopped("asha"))):
        work(study, planted, 1)
    for trial_id in stopped:
        assert worker.ledger.lease(trial_id)
    assert worker._stored_rungs.stopped("asha") == {}
    for trial_id in stopped:
        worker.ledger.release(trial_id)
    assert list(worker._stored_rungs.stopped("asha")) == stopped
    close_storage(worker.storage)


def test_checkpoints_of_the_stopped_stay_until_nobody_can_be_promoted(file_url: str) -> None:
    study, planted = made(file_url), Planted()
    work(study, planted, 10)
    folder = CheckpointFolder(study)
    stopped = {t.number for t in study.trials() if t.reason == "asha"}
    assert stopped <= set(folder.files().values())
    work(study, planted)
    kept = set(folder.files().values())
    assert kept == {t.number for t in study.front()} | {0}


def test_landmarks_are_trained_in_full(file_url: str) -> None:
    study = made(file_url, landmarks=["plain", "se-everywhere", "se-post"], trials=8)
    work(study, Planted())
    assert [len(t.epochs) for t in study.trials() if t.landmark] == [EPOCHS] * 3


def test_what_breaks_a_known_constraint_is_not_trained_and_does_not_count(url: str) -> None:
    study, planted = made(url, constraints=["params <= 1.2 * plain"], pruner={"name": "none"}, trials=10), Planted()
    work(study, planted)
    trials = study.trials()
    refused = [t for t in trials if (t.reason or "").startswith("infeasible: params ")]
    assert refused
    assert not any(t.epochs for t in refused)
    assert all(t.num_params is not None and t.num_params > 1200 for t in refused)
    trained = [t for t in trials if t.epochs]
    assert len(trained) == 10 == study.num_wanted
    assert all(t.num_params is not None and t.num_params <= 1200 for t in trained)
    assert study.target == len(trials) == 10 + len(refused)
    storage = open_storage(url)
    told = optuna.load_study(study_name="s", storage=storage).get_trials()
    close_storage(storage)
    assert {t.number for t in told if max(t.constraints.values()) > 0} == {t.number for t in refused}


class Tiring(Planted):
    """On a machine that takes longer for each timing than for the one before."""

    def __init__(self, slowness: float) -> None:
        super().__init__()
        self.slowness = slowness

    def cost(self, architecture: Architecture) -> CostComparison:
        found = super().cost(architecture)
        slow, self.slowness = self.slowness, 1.1 * self.slowness
        return replace(found, fused=timed(found.fused, slow), plain=timed(found.plain, slow))


def timed(cost: Cost, slow: float) -> Cost:
    middle = slow * cost.num_params
    return replace(cost, latency_ms=middle, latency_low_ms=0.5 * middle, latency_high_ms=2 * middle)


def test_latencies_are_on_the_clock_of_the_first_timing(url: str) -> None:
    study = made(url, objectives={"val_accuracy": "maximize", "latency_ms": "minimize"})
    work(study, Tiring(1.0), 6)
    work(study, Tiring(7.0))
    costs = [t.cost for t in study.trials() if t.cost]
    assert len(costs) == 24
    for cost in costs:
        assert cost.latency_ms == pytest.approx(cost.num_params)
        assert [cost.latency_low_ms, cost.latency_high_ms] == pytest.approx([cost.num_params / 2, cost.num_params * 2])


def test_more_trials_are_more_trained_networks(file_url: str) -> None:
    study = made(file_url, constraints=["params <= 1.2 * plain"], pruner={"name": "none"}, trials=6)
    work(study, Planted())
    set_target(study, 9)
    work(study, Planted())
    assert sum(bool(t.epochs) for t in study.trials()) == 9


def test_a_constraint_on_what_training_shows_keeps_a_network_off_the_front(file_url: str) -> None:
    study = made(file_url, constraints=["val_accuracy >= 0.5"], pruner={"name": "none"}, trials=12)
    work(study, Planted())
    complete = [t for t in study.trials() if t.state == "complete"]
    poor = [t for t in complete if (t.score or 0) < 0.5]
    assert poor
    assert all(t.merit is None for t in poor)
    best = study.best()
    assert best is not None
    assert best.score == max(t.score or 0 for t in complete)
    assert all((t.score or 0) >= 0.5 for t in study.front())


def test_one_objective_other_than_accuracy_decides(file_url: str) -> None:
    study = made(file_url, objectives={"val_loss": "minimize"}, trials=4)

    class Losses(Planted):
        def _epoch(self, architecture: Architecture, epoch: int) -> EpochRecord:
            record = super()._epoch(architecture, epoch)
            return EpochRecord(**{**vars(record), "val_loss": record.val_accuracy})

    work(study, Losses())
    best = study.best()
    complete = [t for t in study.trials() if t.state == "complete"]
    assert best is not None
    assert best.epochs[-1].val_loss == min(t.epochs[-1].val_loss for t in complete)
    assert open_study(study.url, "s").front() == (best,)


def test_a_space_in_which_too_few_meet_the_constraints_ends_the_study(file_url: str, tmp_path: Path) -> None:
    space = tmp_path / "small.yaml"
    space.write_text("schema: 1\nextends: patterns\nchoices: {pattern: [none, p1], attention: [se], reduction: [16]}\n")
    study = made(file_url, space=str(space), constraints=["params <= 1.2 * plain"], pruner={"name": "none"}, trials=16)
    work(study, Planted())
    trials = study.trials()
    trained, refused = ([t for t in trials if bool(t.epochs) is which and t.digest] for which in (True, False))
    assert len(trained) + len(refused) == 16
    assert refused
    assert study.target == 16
    assert all(t.digest for t in trials)  # the one for which there was no network has left the study
