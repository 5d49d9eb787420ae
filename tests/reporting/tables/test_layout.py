"""What stands in every form of a table alike."""

import html as entities
import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from lmdbench.comparison.compare import Comparison
from lmdbench.reporting.tables import html, latex, markdown, print_comparison


def printed(comparison: Comparison) -> str:
    text = io.StringIO()
    print_comparison(comparison, Console(file=text, width=1000))
    return text.getvalue()


FORMS: dict[str, Callable[[Comparison], str]] = {
    "terminal": printed,
    "markdown": lambda comparison: re.sub(r"\\(.)", r"\1", markdown(comparison)),
    "latex": lambda comparison: latex(comparison).replace(r"\%", "%"),
    "html": lambda comparison: entities.unescape(html(comparison)),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_interval_beside_a_corrected_p_is_said_to_be_unadjusted(
    form: str, two: Comparison, awkward: Comparison
) -> None:
    for comparison, tables in ((two, 1), (awkward, 1)):
        text = FORMS[form](comparison)
        assert text.count("p (Holm)") + text.count("(Holm)") >= tables
        assert "[95 %, unadjusted]" in text
        assert "unadjusted: Holm's correction is of the p alone" in text


@pytest.mark.parametrize("form", FORMS)
def test_without_a_p_nothing_is_said_of_adjusting(form: str, two: Comparison) -> None:
    tables = tuple(
        replace(
            table,
            rows=tuple(
                replace(row, cells={k: replace(c, p_corrected=None) for k, c in row.cells.items()})
                for row in table.rows
            ),
        )
        for table in two.tables
    )
    assert "unadjusted" not in FORMS[form](replace(two, tables=tables))
