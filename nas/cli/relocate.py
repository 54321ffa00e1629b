"""``nas relocate``: say where a study's data lie now."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import DEFAULT_URL, Storage, StudyName


def relocate(
    study_name: StudyName,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The new place, as in data.source: folder:PATH.")],
    storage: Storage = DEFAULT_URL,
) -> int:
    """Go on with a study whose data moved. They must be the same images: their fingerprint is compared."""
    from nas.study.launch import relocate as launch
    from nas.study.store.reader import open_study
    from nas.training.config import DataConfig

    study = open_study(storage, study_name)
    data = DataConfig.parse({**study.settings.data.model_dump(), "source": source}, "data").placed(Path())
    launch.relocate(study, data)
    typer.echo(f"study {study.name!r} reads its data from {data.source}")
    return 0
