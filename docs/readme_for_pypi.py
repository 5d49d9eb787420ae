"""README.md for a page elsewhere, where links to files of the repository lead nowhere:

    python docs/readme_for_pypi.py https://github.com/OWNER/lmdbench v0.1.0

writes it with links to these files at that tag. The workflow that releases calls it: it alone knows
where the repository lies.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
LINK = re.compile(r"(?P<image>!?)(?P<text>\[[^\]]*\])\((?!\w+:|#)(?P<target>[^)\s]+)\)")


def with_absolute_links(text: str, repository: str, tag: str) -> str:
    """Markdown whose relative links lead to pages of a repository on GitHub, and whose pictures to
    their files there."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}{link['text']}({repository}/{kind}/{tag}/{link['target']})"

    return LINK.sub(absolute, text)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("give the repository's address and a tag, as in the first lines of this file")
    README.write_text(with_absolute_links(README.read_text("utf-8"), *sys.argv[1:]), "utf-8")
