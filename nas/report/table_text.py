"""A table as text for people."""

import io

from rich.console import Console
from rich.table import Table

WIDTH = 120
"""Columns of the text where nothing else is asked for; longer cells are broken."""


def render_table(table: Table, *, width: int | None = WIDTH) -> str:
    """The lines of a table without colours, whatever standard output is; ``width`` None: that of the terminal."""
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
