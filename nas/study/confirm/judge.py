"""What a confirmation has measured, and what follows from it. Reads the database; no torch, no optuna.

Shapes: S seeds, n test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.architecture import Architecture
from nas.comparison import Correct, Difference, Mean, Values, differences, image_variance, mean_of
from nas.study.records import TrialRecord
from nas.study.store.reader import Study

CANDIDATES_KEY = "confirmed_candidates"
"""Where the provenance of a confirmation holds the digests of the networks that the search found best."""


@dataclass(frozen=True, kw_only=True)
class ConfirmedNetwork:
    """A network that was trained with every seed."""

    label: str
    """The name of a landmark, else `trial N` of the study."""
    digest: str
    architecture: Architecture
    landmark: str | None
    candidate: bool
    """Whether it is one of the best that the search found."""
    num_params: int
    macs: int
    val: Values
    """(S,): validation accuracies, which choose the winner."""
    correct: Correct
    """(S, n)."""

    @property
    def scores(self) -> Values:
        """(S,): test accuracies."""
        return np.asarray(self.correct.mean(1))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network beside the plain one and the best landmark."""

    network: ConfirmedNetwork
    test: Mean
    val: Mean
    above_plain: Difference | None
    """None of the plain network itself."""
    above_landmark: Difference | None
    """Of what the search found, above the best landmark; None elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Every network of a confirmation, by test accuracy, and the one that validation chose."""

    seeds: tuple[int, ...]
    num_test: int
    rows: tuple[Row, ...]
    winner: Row
    """Of what the search found, the best by its validation accuracy over these seeds."""
    plain: Row
    best_landmark: Row | None
    """Of the landmarks that are neither plain nor the winner, the best by validation accuracy."""
    failed: tuple[str, ...]
    """Networks that lack a seed because a training failed: they are not compared."""


def judged(study: Study) -> Judgement | None:
    """The judgement over a study's finished confirmation; None before, or where the plain network failed."""
    parts = study.confirmations()
    if not parts or any(part.num_ended() < part.target for part in parts):
        return None
    networks, failed = _networks(study, parts)
    return judgement(networks, seeds=[int(part.config["seed"]) for part in parts], failed=failed)


def judgement(
    networks: Sequence[ConfirmedNetwork], *, seeds: Sequence[int], failed: Sequence[str] = ()
) -> Judgement | None:
    """The judgement over networks that have every seed; None without plain network, candidate or second seed."""
    plain = next((n for n in networks if n.landmark == "plain"), None)
    candidates = [n for n in networks if n.candidate]
    if plain is None or not candidates or len(seeds) < 2:  # noqa: PLR2004 - one seed has no spread
        return None
    winner = max(candidates, key=lambda n: float(n.val.mean()))
    others = [n for n in networks if n.landmark and n is not plain and n is not winner]
    best_landmark = max(others, key=lambda n: float(n.val.mean()), default=None)
    above_plain = _differences(networks, plain, candidates)
    above_plain |= _differences(networks, plain, [n for n in networks if n is not plain and not n.candidate])
    above_landmark = (
        _differences(networks, best_landmark, [n for n in candidates if n is not best_landmark])
        if best_landmark
        else {}
    )
    rows = {
        network.digest: Row(
            network=network,
            test=mean_of(network.scores),
            val=mean_of(network.val),
            above_plain=above_plain.get(network.digest),
            above_landmark=above_landmark.get(network.digest),
        )
        for network in networks
    }
    return Judgement(
        seeds=tuple(seeds),
        num_test=winner.correct.shape[1],
        rows=tuple(sorted(rows.values(), key=lambda row: -row.test.value)),
        winner=rows[winner.digest],
        plain=rows[plain.digest],
        best_landmark=rows[best_landmark.digest] if best_landmark else None,
        failed=tuple(failed),
    )


def _differences(
    networks: Sequence[ConfirmedNetwork], reference: ConfirmedNetwork, compared: Sequence[ConfirmedNetwork]
) -> dict[str, Difference]:
    """By digest; the number of ``compared`` is what the p-values are corrected for."""
    if not compared:
        return {}
    place = {network.digest: number for number, network in enumerate(networks)}
    found = differences(
        np.stack([network.scores for network in networks]),
        place[reference.digest],
        [place[network.digest] for network in compared],
        [image_variance(network.correct, reference.correct) for network in compared],
    )
    return {network.digest: difference for network, difference in zip(compared, found, strict=True)}


def _networks(study: Study, parts: Sequence[Study]) -> tuple[list[ConfirmedNetwork], tuple[str, ...]]:
    """The networks that have every seed, and the labels of the others."""
    numbers = {record.digest: record.number for record in study.trials()}
    candidates = set(parts[0].provenance[CANDIDATES_KEY])
    by_seed = [{record.digest: record for record in part.trials()} for part in parts]
    tests = [part.test_results() for part in parts]
    networks, failed = [], []
    for digest, first in by_seed[0].items():
        label = first.landmark or f"trial {numbers.get(digest, '?')}"
        runs = [records.get(digest) for records in by_seed]
        scores = [run.score for run in runs if run is not None and run.score is not None and run.state == "complete"]
        correct = [results[digest] for results in tests if digest in results]
        if digest is None or len(scores) < len(parts) or len(correct) < len(parts):
            failed.append(label)
            continue
        networks.append(_network(first, label, digest in candidates, scores, correct))
    return networks, tuple(failed)


def _network(
    first: TrialRecord, label: str, candidate: bool, scores: Sequence[float], correct: Sequence[Correct]
) -> ConfirmedNetwork:
    if first.architecture is None or first.digest is None:
        raise ValueError(f"{label}: a confirmed trial owns its network")
    return ConfirmedNetwork(
        label=label,
        digest=first.digest,
        architecture=first.architecture,
        landmark=first.landmark,
        candidate=candidate,
        num_params=first.num_params or 0,
        macs=first.macs or 0,
        val=np.array(scores),
        correct=np.stack(correct),
    )
