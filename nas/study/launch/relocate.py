"""A data set that moved: the same images are accepted under their new place."""

from nas.errors import UserError
from nas.study.launch import processes
from nas.study.store.engine import open_engine
from nas.study.store.errors import explained
from nas.study.store.reader import Study
from nas.study.store.studies import change_study
from nas.training.config import DataConfig


def relocate(study: Study, data: DataConfig) -> None:
    """Store where the data of a study and of its companions lie from now on.

    Raises:
        UserError: there are other images, or none.
    """
    there = study.settings.data.model_copy(update={"source": data.source})
    stored, found = study.data["fingerprint"], processes.ask(fingerprint_of, there)
    if found != stored:
        raise UserError(
            f"data.source: {data.source} holds other images than study {study.name!r} was begun with (fingerprint "
            f"{found[:16]}, was {stored[:16]}); give the place of the same ones, or give the study a new name"
        )
    with explained(study.url):
        engine = open_engine(study.url)
        for part in study.parts():
            config = {**part.config, "data": {**part.config["data"], "source": data.source}}
            change_study(engine, part.study_id, config=config, data={**part.data, "source": data.source})


def fingerprint_of(data: DataConfig) -> str:
    """The fingerprint of a data set. Imports torch."""
    from nas.training.data import open_data

    return open_data(data).fingerprint
