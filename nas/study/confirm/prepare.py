"""Training the best of a study again: one companion study a seed, of the same networks in the same order.

A companion study is worked on like any other. Its trials are enqueued and own their networks from the start.
"""

import time
from typing import TYPE_CHECKING, Any

from nas.architecture import Architecture
from nas.errors import UserError
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.study.config import StudyConfig
from nas.study.confirm.judge import CANDIDATES_KEY
from nas.study.optuna_private import id_of, study_id_of
from nas.study.records import TrialRecord, front_of
from nas.study.run.checkpoints import KEEPS_KEY, LANDMARK_ATTR
from nas.study.store.errors import explained
from nas.study.store.leases import add_waiting_members
from nas.study.store.lock import making_studies
from nas.study.store.optuna_storage import close_storage, make_optuna_study, open_storage
from nas.study.store.reader import Study
from nas.study.store.studies import add_studies, change_study
from nas.study.store.trials import give_architectures

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

FIRST_SEED = 100_000
"""Added to a study's seed: confirmations use seeds that no search and no calibration has used."""
TOP = 3
"""Networks that are confirmed where nobody says how many."""
DIGEST_ATTR = "digest"
"""Attribute of an enqueued Optuna trial: the network that it is to train."""


def candidates_for(study: Study, top: int | None) -> list[TrialRecord]:
    """The best trained networks of a study beside the plain one, best first; of several objectives first its front.

    Raises:
        UserError: there are none, or fewer than ``top``.
    """
    trials = study.trials()
    front = {t.number for t in front_of(trials, study.settings.goals)}
    complete = [t for t in trials if t.merit is not None and t.landmark != "plain"]
    complete.sort(key=lambda t: (t.number not in front, -(t.merit or 0.0), t.number))
    if not complete:
        raise UserError(f"study {study.name!r} has no complete trial beside the plain network yet: nothing to confirm")
    if top is not None and top > len(complete):
        raise UserError(
            f"--top: {top} asked for, but study {study.name!r} has {len(complete)} complete trials beside the plain "
            "network"
        )
    return complete[: top or TOP]


def prepare_confirmation(study: Study, *, top: int | None, num_seeds: int) -> None:
    """Store what is to be trained; what an earlier call stored stays, and more networks or seeds are added.

    Args:
        top: best trained networks of the study; the plain network and the landmarks come beside them.
        num_seeds: trainings of each network.
    """
    if not study.data["num_test"]:
        raise UserError(f"study {study.name!r}: its data has no test part; see data.test_fraction in the study file")
    chosen = {t.digest: t.architecture for t in candidates_for(study, top) if t.digest and t.architecture}
    config = study.settings
    space = SearchSpace.from_dict(study.space)
    networks = {name: landmark_in(space, name) for name in config.landmarks}
    landmarks = {network.digest: name for name, network in networks.items()}
    planned = {network.digest: network for network in networks.values()} | chosen
    with making_studies(study.url), explained(study.url):
        stored = study.confirmations()
        known = stored[0].provenance[CANDIDATES_KEY] if stored else []
        candidates = list(dict.fromkeys([*known, *chosen]))
        for record in stored[0].trials() if stored else ():
            if record.digest and record.architecture:
                planned[record.digest] = record.architecture
        storage = open_storage(study.url)
        try:
            for number in range(max(num_seeds, len(stored))):
                part = config.of_confirmation(config.seed + FIRST_SEED + number)
                notes = {CANDIDATES_KEY: candidates, KEEPS_KEY: number == 0}
                _store_seed(storage, study, part, planned=planned, landmarks=landmarks, notes=notes)
        finally:
            close_storage(storage)


def _store_seed(
    storage: "RDBStorage",
    study: Study,
    config: StudyConfig,
    *,
    planned: dict[str, Architecture],
    landmarks: dict[str, str],
    notes: dict[str, Any],
) -> None:
    """One companion study with its trials waiting; goes on where an earlier call broke off."""
    made = make_optuna_study(storage, config.name, ["maximize"])
    space = SearchSpace.from_dict(study.space)
    enqueued = {trial.user_attrs.get(DIGEST_ATTR) for trial in made.get_trials(deepcopy=False)}
    for digest, architecture in planned.items():
        if digest not in enqueued:
            attributes = {DIGEST_ATTR: digest}
            if digest in landmarks:
                attributes[LANDMARK_ATTR] = landmarks[digest]
            made.enqueue_trial(space.encode(architecture) or {}, user_attrs=attributes)
    waiting = {id_of(trial): trial.user_attrs[DIGEST_ATTR] for trial in made.get_trials(deepcopy=False)}
    give_architectures(
        storage.engine,
        study_id_of(made),
        {trial_id: (planned[digest], landmarks.get(digest)) for trial_id, digest in waiting.items()},
    )
    add_waiting_members(storage.engine, study_id_of(made))
    row: dict[str, Any] = {"target": len(planned), "provenance": study.provenance | notes}
    if change_study(storage.engine, study_id_of(made), **row):
        return
    row |= {
        "study_id": study_id_of(made),
        "name": config.name,
        "created_at": time.time(),
        "config": config.model_copy(update={"trials": len(planned)}).to_dict(),
        "config_text": study.config_text,
        "space": study.space,
        "data": study.data,
        "candidates_of": None,
        "confirms": study.study_id,
    }
    add_studies(storage.engine, [row])
