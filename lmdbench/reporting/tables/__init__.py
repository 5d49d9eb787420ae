"""A comparison in every form: for the terminal, Markdown, LaTeX, HTML, CSV and JSON.

CSV and JSON hold shares between 0 and 1 in full precision; the others round for people.
"""

from lmdbench.reporting.tables.data import csv_text, json_text
from lmdbench.reporting.tables.escape import LATEX, escape_html, escape_latex, escape_markdown
from lmdbench.reporting.tables.html import html, html_tables
from lmdbench.reporting.tables.latex import latex
from lmdbench.reporting.tables.layout import LAYOUTS, SPREADS
from lmdbench.reporting.tables.markdown import markdown
from lmdbench.reporting.tables.terminal import print_comparison, scores_table

__all__ = [
    "LATEX",
    "LAYOUTS",
    "SPREADS",
    "csv_text",
    "escape_html",
    "escape_latex",
    "escape_markdown",
    "html",
    "html_tables",
    "json_text",
    "latex",
    "markdown",
    "print_comparison",
    "scores_table",
]
