"""``nas spaces``, ``nas landmarks`` and ``nas datasets``: what ships."""

import typer


def spaces() -> None:
    """List the search spaces that ship, with their sizes."""
    from nas.space.files import list_spaces
    from nas.space.space import SearchSpace

    for name in list_spaces():
        space = SearchSpace.load(name)
        typer.echo(f"{name:<12} {space.size:>22,}  {space.description}")


def landmarks() -> None:
    """List the known networks that every study trains first."""
    from nas.space.landmarks import LANDMARKS

    for name, known in LANDMARKS.items():
        typer.echo(f"{name:<18} {known.description}")


def datasets() -> None:
    """List the data sources that a study file can name."""
    from nas.training.config import DATA_SOURCES

    for name, description in DATA_SOURCES.items():
        typer.echo(f"{name:<20} {description}")
