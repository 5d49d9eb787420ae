"""Plain text for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lmdbench.core.words import both_ends


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns side by side, those in ``right`` set flush right."""
    widths = [max(len(row[c]) for row in [header, *rows]) for c in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if c in right else cell.ljust(width)
            for c, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    )


def class_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> str:
    """A table with a row a class; of many classes the first and the last ones."""

    def gap(left_out: int) -> Sequence[str]:
        return [f"… {left_out:,} more (--json)", *[""] * (len(header) - 1)]

    return table(header, both_ends(rows, gap), right)


def json_text(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
