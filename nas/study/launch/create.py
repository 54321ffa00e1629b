"""Creating a study or joining a stored one."""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from nas.errors import UserError
from nas.estimate.config import EstimateConfig
from nas.machine import cpu_count
from nas.space.landmarks import landmark_in
from nas.space.space import SearchSpace
from nas.study.config import RUNTIME_KEYS, StudyConfig
from nas.study.store.engine import open_engine
from nas.study.store.errors import explained
from nas.study.store.lock import making_studies
from nas.study.store.optuna_storage import close_storage
from nas.study.store.reader import Study, open_study
from nas.study.store.studies import add_studies, change_study, refuse_leftovers, stored_study

if TYPE_CHECKING:
    import optuna

    from nas.estimate.ranking import Calibration
    from nas.training.summary import DataSummary

PACKAGES = (
    "fusion-nas",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "optuna",
    "sqlalchemy",
    "numpy",
    "scikit-learn",
)


def check_same(config: StudyConfig, study: Study) -> bool:
    """Refuse a study file that would change what the stored scores mean.

    Returns:
        Whether it names another place for the data, whose images are yet to be compared: see `relocate`.
    """
    stored_config = study.settings
    moved = config.data.source != stored_config.data.source and config.data.kind == stored_config.data.kind
    differences = config.with_places_of(stored_config).differences(study.config)
    stored = SearchSpace.from_dict(study.space)
    given = SearchSpace.load(config.space).on(
        backbone=config.backbone, num_classes=stored.num_classes, in_chans=stored.in_chans
    )
    if given.digest != stored.digest:
        differences.append(
            f"space: stored {stored.name!r} with digest {stored.digest}, given {given.name!r} with {given.digest}"
        )
    if differences:
        shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")  # noqa: PLR2004
        may = f"{', '.join(RUNTIME_KEYS[:-1])} and {RUNTIME_KEYS[-1]}"
        raise UserError(
            f"study {study.name!r} is stored with other settings: {shown}. "
            f"Only {may} may change; give the study a new name to start another"
        )
    return moved


def create_study(
    config: StudyConfig,
    text: str,
    url: str,
    describe: Callable[[StudyConfig], "DataSummary"],
    calibration: "Calibration | None" = None,
    *,
    force: bool = False,
) -> Study:
    """Store a new study with its landmarks waiting; safe against a second launcher and a crash in between.

    Args:
        describe: opens the data.
        force: also in a database that holds only tables of another program.
        calibration: decides what `estimate: auto` means; without one it means a full training of every candidate.

    Raises:
        UserError: `estimate: predictor` without a calibration to fit it to, or a study of Optuna's has this name.
    """
    from nas.study.optuna_private import study_id_of
    from nas.study.store.leases import add_waiting_members
    from nas.study.store.optuna_storage import make_optuna_study, make_storage

    if config.estimate.by == "predictor" and calibration is None:
        raise UserError("estimate: predictor needs the study's calibration; nas search begins with it")
    space = SearchSpace.load(config.space)
    summary = describe(config)
    config = config.on_data(summary)
    space = space.on(backbone=config.backbone, num_classes=summary.num_classes, in_chans=summary.in_chans)
    with making_studies(url), explained(url):
        if (stored := stored_study(url, config.name)) is not None:  # another launcher was faster
            return stored
        storage = make_storage(url, force=force)
        refuse_leftovers(storage.engine, url)
        row = {
            "created_at": time.time(),
            "config_text": text,
            "space": space.to_dict(),
            "data": asdict(summary),
            "provenance": provenance() | ({"calibration": calibration.to_dict()} if calibration else {}),
        }

        def make(config: StudyConfig, target: int, candidates_of: int | None) -> tuple[dict[str, Any], "optuna.Study"]:
            made = make_optuna_study(storage, config.name, list(config.objectives.values()))
            own = {
                "study_id": study_id_of(made),
                "name": config.name,
                "target": target,
                "config": config.to_dict(),
                "candidates_of": candidates_of,
                "confirms": None,
            }
            return row | own, made

        first, study = make(config, min(config.trials, _capacity(config, space)), None)
        rows = [first]
        _enqueue_landmarks(study, config, space, first["target"])
        estimate = _resolved(config.estimate, calibration)
        if estimate.cheap:
            scored = config.of_candidates(estimate)
            rows.append(make(scored, min(scored.trials, space.size), study_id_of(study))[0])
        add_studies(storage.engine, rows)
        for made in rows:
            add_waiting_members(storage.engine, made["study_id"])
        close_storage(storage)
    return open_study(url, config.name)


def _resolved(estimate: EstimateConfig, calibration: "Calibration | None") -> EstimateConfig:
    """What `auto` means after a calibration."""
    if estimate.by != "auto":
        return estimate
    return estimate.model_copy(update=calibration.settings if calibration else {"by": "full"})


def _capacity(config: StudyConfig, space: SearchSpace) -> int:
    """Distinct networks that the study can train: those of the space and the landmarks outside it."""
    return space.size + sum(landmark_in(space, name) not in space for name in config.landmarks)


def _enqueue_landmarks(study: "optuna.Study", config: StudyConfig, space: SearchSpace, target: int) -> None:
    """Let those that are not there yet wait, no more than the study is to have trials."""
    waiting = {trial.user_attrs.get("landmark") for trial in study.get_trials(deepcopy=False)}
    for name in config.landmarks[:target]:
        if name not in waiting:
            params = space.encode(landmark_in(space, name)) or {}
            study.enqueue_trial(params, user_attrs={"landmark": name})


def provenance() -> dict[str, Any]:
    """Versions and machine, without importing the packages."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def set_target(study: Study, target: int) -> int:
    """Set how many trials the study is to have in the end; returns it, which is no more than there are networks.

    Raises:
        UserError: more have ended already.
    """
    refused = study.target - study.num_wanted
    if target < (ended := study.num_ended() - refused):
        raise UserError(
            f"--trials: expected the size of the whole study, which has {ended} trials already, got {target}; "
            f"{ended + target} would add {target}"
        )
    config = study.settings
    target = min(max(target, study.num_members), _capacity(config, SearchSpace.from_dict(study.space)))
    with explained(study.url):
        change_study(open_engine(study.url), study.study_id, target=target)
        if study.num_members < min(target, len(config.landmarks)):
            _add_landmarks(study, config, target)
    return target


def _add_landmarks(study: Study, config: StudyConfig, target: int) -> None:
    """Let the landmarks wait for which a study had no room when it was smaller."""
    import optuna

    from nas.study.store.leases import add_waiting_members
    from nas.study.store.optuna_storage import close_storage, open_storage

    storage = open_storage(study.url)
    try:
        made = optuna.load_study(study_name=study.name, storage=storage)
        _enqueue_landmarks(made, config, SearchSpace.from_dict(study.space), target)
        add_waiting_members(storage.engine, study.study_id)
    finally:
        close_storage(storage)


def set_tracking(study: Study, tracker: str | None) -> None:
    """Store which tracker the study's workers use from now on."""
    config = {**study.config, "tracking": tracker}
    with explained(study.url):
        change_study(open_engine(study.url), study.study_id, config=config)
