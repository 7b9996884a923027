"""A table that shows itself: as HTML in a notebook, as aligned text elsewhere."""

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """``head``: one title a column; ``rows``: tuples of texts, the first is the row's name."""

    head: tuple
    rows: list

    def __getitem__(self, name: str) -> tuple:
        """Return the cells after the name in the row called ``name``."""
        return next(tuple(row[1:]) for row in self.rows if row[0] == name)

    def __repr__(self) -> str:
        """Return the table as text."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        return "\n".join(
            "  ".join(f"{cell:{'>' if column else '<'}{width}}" for column, (cell, width) in _places(line, widths))
            for line in lines
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.head)
        rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table><tr>{head}</tr>{rows}</table>"


def _places(line: tuple, widths: list):
    return enumerate(zip(line, widths, strict=True))
