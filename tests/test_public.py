"""``import lmdbench``: what is public, imported when it is used."""

import doctest
import subprocess
import sys

import pytest

import lmdbench


def test_the_bare_import_brings_nothing_heavy():
    code = "import sys, lmdbench; print({'torch', 'numpy', 'pandas', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", lmdbench.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(lmdbench, name)
    assert name == "__version__" or thing.__doc__


def test_a_name_that_there_is_not():
    with pytest.raises(AttributeError, match="module 'lmdbench' has no attribute 'fitt'"):
        lmdbench.fitt  # noqa: B018


def test_what_it_says_of_itself_is_so():
    assert doctest.testmod(lmdbench).failed == 0
