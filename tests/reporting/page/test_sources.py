"""Titles and sources of methods, read from their files, are those that the classes have."""

import subprocess
import sys
from pathlib import Path

from lmdbench.reporting.page.sources import about_methods
from lmdbench.training.method import METHODS


def test_every_method_says_what_its_class_says() -> None:
    found = about_methods()
    built_in = [n for n in METHODS.names() if METHODS.get(n).__module__.startswith("lmdbench.")]
    assert "lmd" in built_in
    for name in built_in:
        cls, about = METHODS.get(name), found[name]
        assert (about.title, about.source, about.deviations) == (
            cls.title,
            cls.source,
            tuple(cls.deviations),
        )
        assert about.title
        assert about.source


def test_a_plugin_is_read_too_and_what_is_no_text_is_left_out(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from lmdbench.training.method import register_method\n"
        "from lmdbench.methods.ce import CrossEntropy\n\n\n"
        "@register_method('mine')\n"
        "class Mine(CrossEntropy):\n"
        "    title = 'My loss'\n"
        "    deviations = ('One.', 'Two.')\n\n\n"
        "@register_method('computed')\n"
        "class Computed(CrossEntropy):\n"
        "    title = 'T'.lower()\n"
    )
    code = (
        "import sys; from pathlib import Path; from lmdbench.core.registry import load_plugin;"
        "from lmdbench.reporting.page.sources import about_methods;"
        "load_plugin(Path(sys.argv[1])); found = about_methods();"
        "assert found['mine'].title == 'My loss', found['mine'];"
        "assert found['mine'].source == found['ce'].source != '';"
        "assert found['mine'].deviations == ('One.', 'Two.');"
        "assert found['computed'].title == ''"
    )
    done = subprocess.run([sys.executable, "-c", code, plugin], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_torch_is_not_needed() -> None:
    code = (
        "import sys; from lmdbench.reporting.page.sources import about_methods;"
        "assert 'ce' in about_methods(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
