"""How far the cheap scores of a study are."""

from dataclasses import dataclass

from nas.study.store.reader import Study


@dataclass(frozen=True, kw_only=True)
class CandidateSummary:
    """How far the cheap scores are, of which the best candidates are trained."""

    by: str
    ended: int
    target: int
    epochs: int
    """Of a brief training, of each shared network, or of the full trainings that a predictor was fitted to."""
    networks: int | None = None
    """Shared networks; None where there are none."""
    trainings: int | None = None
    """What a predictor was fitted to; None where there is none."""

    def __str__(self) -> str:
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        return f"{self.ended} of {self.target} candidates scored by {self._how()} ({epochs})"

    def _how(self) -> str:
        if self.trainings:
            return f"a predictor of {self.trainings} full trainings"
        if self.networks:
            return "a shared network" if self.networks == 1 else f"the mean of {self.networks} shared networks"
        return "brief training"


def candidate_summary(study: Study) -> CandidateSummary | None:
    """How far the cheap scores of a study are; None where every candidate is trained."""
    candidates = study.candidates()
    if candidates is None:
        return None
    estimate = candidates.config["estimate"]
    return CandidateSummary(
        by=estimate["by"],
        ended=candidates.num_ended(),
        target=candidates.target,
        epochs=candidates.config["training"]["epochs"],
        networks=estimate["networks"] if estimate["by"] == "shared" else None,
        trainings=study.predictor["num_trainings"] if estimate["by"] == "predictor" else None,
    )
