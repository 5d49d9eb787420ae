"""Pictures inside the page: several SVG documents in one, each with a text for who can't see it."""

from __future__ import annotations

import re

from markupsafe import Markup, escape


def inline(document: str, prefix: str, title: str, description: str) -> Markup:
    """An SVG document of matplotlib as an element of a page.

    ``prefix`` goes before every id, and every reference to one, for the ids of several documents
    are the same. ``title`` and ``description`` are what a screen reader tells.
    """
    start = document.index("<svg")
    head, body = document[start:].split(">", 1)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    seen: set[str] = set()

    def own_id(match: re.Match[str]) -> str:
        if match[1] in seen:  # of equal pictures, which are named by their content
            return ""
        seen.add(match[1])
        return f' id="{prefix}-{match[1]}"'

    body = re.sub(r'\s+id="([^"]*)"', own_id, body)
    body = re.sub(r'href="#([^"]*)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", body)
    box = re.search(r'viewBox="([^"]*)"', head)
    if box is None:
        raise ValueError("an SVG document without a viewBox")
    names = f"{prefix}-title {prefix}-desc"
    opened = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[1]}" role="img" aria-labelledby="{names}">'
        f'<title id="{prefix}-title">{escape(title)}</title>'
        f'<desc id="{prefix}-desc">{escape(description)}</desc>'
    )
    return Markup(opened + body)
