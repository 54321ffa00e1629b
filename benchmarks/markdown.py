"""The measured parts of the documentation."""

from collections.abc import Mapping, Sequence


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table's lines."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def fill(text: str, parts: Mapping[str, str]) -> str:
    """Put each part between its two comments."""
    for name, content in parts.items():
        begin, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
        before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
        text = f"{before}\n\n{content}\n\n{after}"
    return text
