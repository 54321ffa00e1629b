"""The tables that stand beside Optuna's own, all with the prefix ``nas_``.

Optuna keeps trials, their parameters, states and values; these tables keep what Optuna has no room for:
the study as it was given, which trial owns which architecture, what every epoch gave, what broke, and who works.
The columns of Optuna's tables that reading commands need are named here too, so that they need not import it.
"""

import sqlalchemy as sa

SCHEMA_VERSION = 5

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
)
"""A study whose trials are cheap scores names the one that trains the best of them; one that trains networks again
with another seed names the one that found them. What the plain network took when it was first timed is the clock of
the study: all latencies are on its scale."""

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
"""A trial owns its architecture: no other trial of the study may train the same digest."""

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
)

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
    sa.column("trial_id", sa.Integer),
    sa.column("objective", sa.Integer),
    sa.column("value", sa.Float),
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


ENDED = ("COMPLETE", "PRUNED", "FAIL")
"""States of trials that came to an end."""


def state_text() -> sa.ColumnElement[str]:
    """An Optuna trial's state as text: an enumeration in PostgreSQL."""
    return sa.cast(optuna_trials.c.state, sa.String)


def num_trials_of(study_id: int) -> sa.Select[tuple[int]]:
    """How many trials a study is to have: those that are to be trained, and those that a constraint kept from it."""
    return sa.select(studies.c.target + num_refused_of(study_id)).where(studies.c.study_id == study_id)


def num_refused_of(study_id: int | sa.ColumnElement[int]) -> sa.ScalarSelect[int]:
    """How many trials of a study a constraint kept from training."""
    refused = sa.select(sa.func.count()).where(costs.c.study_id == study_id, costs.c.broken.is_not(None))
    return refused.scalar_subquery()
