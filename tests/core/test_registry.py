"""Names to classes: look-up, mistakes, plug-in files and entry points."""

import re
import subprocess
import sys

import pytest

import lmdbench
from lmdbench.core.errors import UserError
from lmdbench.core.registry import Registry, load_plugin, misspelt


class Shape:
    pass


@pytest.fixture
def shapes():
    return Registry("shape", "lmdbench.datasets", group="lmdbench.shapes", base=Shape)


def test_register_returns_the_class_and_names_it(shapes):
    @shapes.register("circle")
    class Circle(Shape):
        pass

    assert shapes.get("circle") is Circle
    assert Circle.name == "circle"


def test_unknown_name_gives_near_matches_and_the_list(shapes):
    shapes.register("circle")(type("Circle", (Shape,), {}))
    shapes.register("square")(type("Square", (Shape,), {}))
    with pytest.raises(UserError, match=r"unknown shape 'cirlce'\. Did you mean circle\?.*square"):
        shapes.get("cirlce")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("CIRCLE", "Did you mean circle? Known"),
        ("half", "Did you mean half-circle or half-ellipse? Known"),
        ("Round thing", "Did you mean circle? Known"),
        ("xyz", "'xyz'. Known"),
        ("", "''. Known"),
    ],
)
def test_near_matches_by_case_part_and_title(shapes, typed, hint):
    shapes.register("circle")(type("Circle", (Shape,), {"title": "Round thing"}))
    shapes.register("half-circle")(type("HalfCircle", (Shape,), {"title": "Half a round thing"}))
    shapes.register("half-ellipse")(type("HalfEllipse", (Shape,), {}))
    with pytest.raises(UserError, match=re.escape(hint)):
        shapes.get(typed)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("learning_rate", "Did you mean lr? Known"),
        ("wd", "Did you mean weight_decay? Known"),
        ("base_lr", "Did you mean lr? Known"),
        ("weight_dekay", "Did you mean weight_decay"),
    ],
)
def test_near_matches_by_initials_and_words(shapes, typed, hint):
    for name in ("lr", "weight_decay", "weights_after"):
        shapes.register(name)(type("One", (Shape,), {}))
    with pytest.raises(UserError, match=re.escape(hint)):
        shapes.get(typed)


class Base:
    colour = "red"
    size: int

    def draw(self): ...


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"color": 1}, ["nothing reads its color. Did you mean colour?"]),
        ({"draws": len}, ["nothing reads its draws. Did you mean draw?"]),
        ({"sizes": 3}, ["nothing reads its sizes. Did you mean size?"]),
        ({"sizes": 3, "size": 3}, []),  # it says both
        ({"colours": len, "drawing": len, "_color": 1, "other": 2}, []),
    ],
)
def test_what_is_misspelt_in_a_class(own, told):
    assert list(misspelt(type("Own", (Base,), own), Base, ["colour", "size", "draw"])) == told


def test_duplicate_name_raises(shapes):
    shapes.register("circle")(type("Circle", (Shape,), {}))
    with pytest.raises(UserError, match="already registered"):
        shapes.register("circle")(type("Other", (Shape,), {}))


def test_wrong_base_class_raises(shapes):
    with pytest.raises(UserError, match="subclass of Shape"):
        shapes.register("dict")(dict)


PLUGIN = """
from lmdbench.data.dataset import Dataset, register_dataset

@register_dataset({name!r})
class Mine(Dataset):
    title = "from a plug-in"
    source, licence = "nowhere", "none"
    backbone, image_size, needs_root = "small", 32, False
    def records(self): ...
    def split(self, imbalance_factor, seed): ...
"""


def test_plugin_file_registers_and_loads_once(tmp_path):
    from lmdbench.data.dataset import DATASETS

    path = tmp_path / "plugin_of_registry_test.py"
    path.write_text(PLUGIN.format(name="registry-test"))
    load_plugin(path)
    load_plugin(str(path))  # named twice on a command line: no duplicate
    assert DATASETS.get("registry-test").title == "from a plug-in"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.py", None, "no such file"),
        (
            "broken_plugin.py",
            "import no_such_module_anywhere",
            "it imports no_such_module_anywhere, which is neither installed nor a file beside it",
        ),
        ("syntax_plugin.py", "def", "SyntaxError"),
        ("plugin.txt", "", "must end in .py"),
        (
            "taken_plugin.py",
            PLUGIN.format(name="folder"),
            "data set 'folder' is built in; choose another name",
        ),
        ("idle_plugin.py", "def loss(): ...", "it registers nothing: is the decorator missing"),
    ],
)
def test_plugin_that_cannot_be_loaded_is_named(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_plugin(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_entry_points_of_installed_packages_are_found(tmp_path):
    """A package as pip leaves it: a module and its metadata on the path. One more is broken."""
    (tmp_path / "their_data.py").write_text(PLUGIN.format(name="theirs"))
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[lmdbench.datasets]\ntheirs = their_data:Mine\nbroken = no_such_module\n"
    )
    code = (
        "from lmdbench.data.dataset import DATASETS\n"
        "print(DATASETS.get('theirs').title); print(DATASETS.broken)"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "from a plug-in" in result.stdout
    assert "No module named 'no_such_module'" in result.stdout


FORMS = {
    "register_method": '@register_method("a-name")',
    "register_dataset": '@register_dataset("a-name")',
    "register_backbone": '@register_backbone("a-name", title=…)',
    "register_metric": '@register_metric("a-name", title=…)',
    "register_plot": '@register_plot("a-name", title=…)',
    "register_logger": '@register_logger("a-name", title=…)',
    "register_executor": '@register_executor("a-name", title=…)',
    "register_sampler": '@register_sampler("a-name")',
    "register_view": '@register_view("a-name", draw=…)',
}


@pytest.mark.parametrize("register", FORMS)
def test_a_decorator_without_its_arguments_is_told_the_right_form(register):
    decorator = getattr(lmdbench, register)
    for given in ((), (Shape,), ("mine", "of", "too", "many", "words")):
        with pytest.raises(UserError, match=re.escape(f"; write {FORMS[register]}")) as told:
            decorator(*given)
        assert "\n" not in str(told.value)


def test_a_name_that_another_plugin_took_is_told_with_its_file(tmp_path):
    for file in ("first_plugin.py", "second_plugin.py"):
        (tmp_path / file).write_text(PLUGIN.format(name="wanted"))
    load_plugin(tmp_path / "first_plugin.py")
    with pytest.raises(UserError, match=r"'wanted' is already registered by first_plugin\.py; "):
        load_plugin(tmp_path / "second_plugin.py")


@pytest.mark.parametrize("turn", [1, 2])
def test_what_a_test_registers_is_gone_after_it(tmp_path, turn):
    from lmdbench.data.dataset import DATASETS

    assert "of-each-turn" not in DATASETS
    path = tmp_path / "plugin_of_each_turn.py"
    path.write_text(PLUGIN.format(name="of-each-turn"))
    load_plugin(path)
    assert "of-each-turn" in DATASETS


@pytest.mark.parametrize("name", ["a/../b", "", ".", "a b", "-a", "a.b"])
def test_a_name_is_fit_for_a_folder_and_an_option(shapes, name):
    with pytest.raises(UserError, match="letters, digits"):
        shapes.register(name)(type("Odd", (Shape,), {}))
