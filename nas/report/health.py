"""What stands behind a study, in a line or two."""

from nas.study.doctor import Health
from nas.study.store.hints import command_line

SKEW_S = 5.0
"""A clock that is further off than this is worth a word."""
LITTLE_BYTES = 2**30
"""Less free space than this too."""


def health_text(health: Health, name: str, url: str) -> str:
    """What stands behind a study, in a line or two: the second names what `nas recover` mends."""
    lines = [foundation_text(health)]
    wrong = {
        "stale trials": len(health.stale_trials),
        "dead workers": len(health.dead_workers),
        "orphan checkpoints": len(health.orphan_checkpoints),
    }
    if any(wrong.values()):
        counts = ", ".join(f"{count} {what}" for what, count in wrong.items() if count)
        lines.append(f"{counts}; mend that with: {command_line('recover', name, url=url)}")
    return "\n".join(lines)


def foundation_text(health: Health) -> str:
    """Schema, space and clock in one line."""
    skewed = abs(health.clock_skew_s) > SKEW_S
    clock = f" · this clock is {health.clock_skew_s:+.1f} s off the database's: set it" if skewed else ""
    space = f"{health.free_bytes / 2**30:.1f} GiB free"
    return f"schema {health.schema} · {space}{', too little' if health.free_bytes < LITTLE_BYTES else ''}{clock}"
