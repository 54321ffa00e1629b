"""The paired trainings of `benchmarks/rules.py`, on results that are made up."""

import pytest

from benchmarks import rules


def results(effect: float) -> dict[str, dict[str, object]]:
    """Every run of the rule `reduction`: the second variant is better by ``effect``, the third by nothing."""
    found = {}
    for number, run in enumerate(run for run in rules.every_run() if run.rule == "reduction"):
        base = 0.4 + 0.02 * run.architecture + 0.01 * (run.seed % 2) + 0.001 * (number % 5)
        found[run.key] = {
            "accuracy": base + effect * (run.variant == 1),
            "signals": ["loss-spike"] if run.variant == 2 and run.architecture == 0 else [],
        }
    return found


def test_differences_are_paired_by_architecture() -> None:
    first, better, same = rules.outcomes("reduction", results(0.05))
    assert first.difference is None
    assert better.difference is not None
    assert better.difference.value == pytest.approx(0.05, abs=0.002)
    assert better.difference.found
    assert same.difference is not None
    assert not same.difference.found
    assert same.signals == {"any": pytest.approx(1 / 6), "loss-spike": pytest.approx(1 / 6)}


def test_nothing_is_said_before_every_run_is_there() -> None:
    some = results(0.05)
    some.popitem()
    assert rules.outcomes("reduction", some) == ()


def test_bases_hold_the_patterns_that_the_question_is_about() -> None:
    for name, rule in rules.RULES.items():
        for architecture in rules.bases(name):
            fused = [stage.pattern for stage in architecture.stages if not stage.is_off]
            assert len(fused) > 1
            assert set(fused) <= set(rule.patterns)
        assert len({architecture.digest for architecture in rules.bases(name)}) == rules.ARCHITECTURES
