"""The tables that stand beside Optuna's own, all with the prefix ``nas_``.

Optuna keeps trials, their parameters, states and values; these tables keep what Optuna has no room for:
the study as it was given, which trial owns which architecture, what every epoch gave, what broke, and who works.
The columns of Optuna's tables that reading commands need are named here too, so that they need not import it.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nas.study import records

SCHEMA_VERSION = 6

metadata = sa.MetaData()

schema = sa.Table("nas_schema", metadata, sa.Column("version", sa.Integer, primary_key=True))

studies = sa.Table(
    "nas_studies",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(512), nullable=False, unique=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("target", sa.Integer, nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("config_text", sa.Text, nullable=False),
    sa.Column("space", sa.JSON, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("provenance", sa.JSON, nullable=False),
    sa.Column("candidates_of", sa.Integer),  # since version 2
    sa.Column("confirms", sa.Integer),  # since version 3
    sa.Column("clock_ms", sa.Float),  # since version 5
    sa.Column("deaths", sa.Integer, nullable=False, server_default="0"),  # since version 6, as the next one
    sa.Column("calibrates", sa.String(512)),
)
"""A study whose trials are cheap scores names the one that trains the best of them; one that trains networks again
with another seed names the one that found them; a calibration has the name of the study that it is for, which may not
exist yet. What the plain network took when it was first timed is the clock of the study: all latencies are on its
scale. Deaths are of workers, one after the other, with no epoch in between: see `nas.study.store.deaths`."""

architectures = sa.Table(
    "nas_architectures",
    metadata,
    sa.Column("digest", sa.String(16), primary_key=True),
    sa.Column("content", sa.JSON, nullable=False),
)

trials = sa.Table(
    "nas_trials",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(16), nullable=False),
    sa.Column("landmark", sa.String(64)),
    sa.Column("crashes", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(256)),
    sa.UniqueConstraint("study_id", "digest"),
)
"""A trial owns its architecture: no other trial of the study may train the same digest. The trials of a calibration
train one architecture several times: their digests are those of their runs."""

members = sa.Table(
    "nas_members",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("reason", sa.String(256)),
)
"""Trials that a study asked for, and why one ended before it had a network. What a program of the user's asks Optuna
for, in the same study, is none of them."""

leases = sa.Table(
    "nas_leases",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("worker_id", sa.String(64), nullable=False),
    sa.Column("since", sa.Float, nullable=False),
)
"""Who trains a running trial; only the holder may write results."""

workers = sa.Table(
    "nas_workers",
    metadata,
    sa.Column("worker_id", sa.String(64), primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("host", sa.String(256), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("device", sa.String(256), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("heartbeat_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("machine", sa.String(256)),  # since version 6, as the next one
    sa.Column("process_start", sa.BigInteger),
    sa.Column("deaths_before", sa.Integer, nullable=False, server_default="0"),  # since version 6
)
"""Where a worker runs: `nas.machine.Machine`, the number of its process there, and when that began."""

measurements = sa.Table(
    "nas_measurements",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False),
    sa.Column("trial_id", sa.Integer, nullable=False, index=True),
    sa.Column("digest", sa.String(16), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("budget", sa.Integer, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(256)),
    sa.Column("score", sa.Float),
    sa.Column("num_params", sa.BigInteger, nullable=False),
    sa.Column("macs", sa.BigInteger, nullable=False),
    sa.Column("latency_ms", sa.Float),
    sa.Column("wall_s", sa.Float, nullable=False),
    sa.Column("worker_id", sa.String(64), nullable=False),
    sa.Column("finished_at", sa.Float, nullable=False),
    sa.UniqueConstraint("study_id", "digest", "seed", "budget"),
)

scores = sa.Table(
    "nas_scores",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("network", sa.String(16), nullable=False),
    sa.Column("accuracy", sa.Float, nullable=False),
    sa.Column("loss", sa.Float, nullable=False),
    sa.Column("wall_s", sa.Float, nullable=False),
    sa.Column("worker_id", sa.String(64), nullable=False),
    sa.Column("finished_at", sa.Float, nullable=False),
)
"""What shared networks (their digest) say of a candidate: good for ranking, and never a measurement."""

calibrations = sa.Table(
    "nas_calibrations",
    metadata,
    sa.Column("task", sa.String(16), primary_key=True),
    sa.Column("run", sa.String(128), primary_key=True),
    sa.Column("result", sa.JSON, nullable=False),
)
"""What the runs of calibrations gave, by the digest of the task and the key of the run: whichever study did them."""

tests = sa.Table(
    "nas_tests",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("digest", sa.String(16), nullable=False),
    sa.Column("num_images", sa.Integer, nullable=False),
    sa.Column("correct", sa.LargeBinary, nullable=False),
)
"""Which test images a confirmed network classified correctly: one bit each, the first image in the highest."""

epochs = sa.Table(
    "nas_epochs",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seed", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("train_loss", sa.Float),
    sa.Column("val_loss", sa.Float),
    sa.Column("val_accuracy", sa.Float, nullable=False),
    sa.Column("learning_rate", sa.Float, nullable=False),
    sa.Column("grad_norm", sa.Float),
    sa.Column("train_s", sa.Float, nullable=False),
    sa.Column("val_s", sa.Float, nullable=False),
    sa.Column("val_top5", sa.Float),  # since version 4, as the next two
    sa.Column("val_macro_f1", sa.Float),
    sa.Column("val_balanced_accuracy", sa.Float),
)
"""A loss or norm that was not finite is NULL: databases disagree about NaN."""

costs = sa.Table(
    "nas_costs",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("num_params", sa.BigInteger, nullable=False),
    sa.Column("macs", sa.BigInteger, nullable=False),
    sa.Column("peak_memory_mb", sa.Float),
    sa.Column("latency_ms", sa.Float),
    sa.Column("latency_low_ms", sa.Float),
    sa.Column("latency_high_ms", sa.Float),
    sa.Column("plain_latency_ms", sa.Float),
    sa.Column("device", sa.String(256), nullable=False),
    sa.Column("broken", sa.String(256)),
)
"""What was known of a network before its training, and the first constraint that it breaks: then it is not trained."""

promotions = sa.Table(
    "nas_promotions",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("epochs", sa.Integer, primary_key=True, autoincrement=False),
)
"""Rungs past which a trial was let after it had been stopped there."""

events = sa.Table(
    "nas_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("trial_id", sa.Integer, nullable=False, index=True),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("signal", sa.String(64), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("threshold", sa.Float),
    sa.Column("stage", sa.Integer),
    sa.Column("block", sa.Integer),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("trace", sa.JSON, nullable=False),
)

optuna_studies = sa.table("studies", sa.column("study_id"), sa.column("study_name"))
optuna_values = sa.table(
    "trial_values",
    sa.column("trial_value_id", sa.Integer),
    sa.column("trial_id", sa.Integer),
    sa.column("objective", sa.Integer),
    sa.column("value", sa.Float),
    sa.column("value_type", sa.Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")),
)
optuna_reports = sa.table(
    "trial_intermediate_values",
    sa.column("trial_intermediate_value_id", sa.Integer),
    sa.column("trial_id", sa.Integer),
    sa.column("step", sa.Integer),
    sa.column("intermediate_value", sa.Float),
    sa.column(
        "intermediate_value_type",
        sa.Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype"),
    ),
)
optuna_params = sa.table(
    "trial_params",
    sa.column("param_id", sa.Integer),
    sa.column("trial_id", sa.Integer),
    sa.column("param_name", sa.String),
    sa.column("param_value", sa.Float),
    sa.column("distribution_json", sa.Text),
)
optuna_user_attributes, optuna_system_attributes = (
    sa.table(
        f"trial_{kind}_attributes",
        sa.column(f"trial_{kind}_attribute_id", sa.Integer),
        sa.column("trial_id", sa.Integer),
        sa.column("key", sa.String),
        sa.column("value_json", sa.Text),
    )
    for kind in ("user", "system")
)
optuna_trials = sa.table(
    "trials",
    sa.column("trial_id", sa.Integer),
    sa.column("number", sa.Integer),
    sa.column("study_id", sa.Integer),
    sa.column("state", sa.String),
    sa.column("datetime_start", sa.DateTime),
    sa.column("datetime_complete", sa.DateTime),
)


ENDED = tuple(state.upper() for state in records.ENDED)
"""`nas.study.records.ENDED` as Optuna spells them."""


def state_text() -> sa.ColumnElement[str]:
    """An Optuna trial's state as text: an enumeration in PostgreSQL."""
    return sa.cast(optuna_trials.c.state, sa.String)


TRIAL_STATE = sa.Enum("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", name="trialstate")
"""As Optuna's table has it."""


def set_state(connection: sa.Connection, trial_id: int, state: str, *, unless: Collection[str]) -> bool:
    """Give an Optuna trial another state; False where it is in one of those of ``unless``."""
    trial, moment = optuna_trials.c, datetime.now() if state in ENDED else None
    row = {"state": sa.cast(state, TRIAL_STATE), "datetime_complete": moment}
    change = sa.update(optuna_trials).where(trial.trial_id == trial_id, state_text().not_in(unless)).values(row)
    return bool(connection.execute(change).rowcount)


def members_of(study_id: int) -> sa.Select[Any]:
    """The rows of Optuna's trials that belong to a study."""
    ours = members.c
    joined = optuna_trials.join(members, ours.trial_id == optuna_trials.c.trial_id)
    return sa.select(optuna_trials).select_from(joined).where(ours.study_id == study_id)


def num_trials_of(study_id: int) -> sa.Select[tuple[int]]:
    """How many trials a study is to have: those that are to be trained, and those that a constraint kept from it."""
    return sa.select(studies.c.target + num_refused_of(study_id)).where(studies.c.study_id == study_id)


def num_refused_of(study_id: int | sa.ColumnElement[int]) -> sa.ScalarSelect[int]:
    """How many trials of a study a constraint kept from training."""
    refused = sa.select(sa.func.count()).where(costs.c.study_id == study_id, costs.c.broken.is_not(None))
    return refused.scalar_subquery()
