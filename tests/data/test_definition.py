"""A data set's class that makes no sense is refused as it is registered, in one line."""

import uuid

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset, register_dataset

GOOD = {
    "title": "Drawn",
    "source": "this test",
    "licence": "MIT",
    "records": lambda self: None,
    "split": lambda self, imbalance_factor, seed: None,
}


def register(**changes) -> str:
    """Registers a good data set with changes, where None takes something away; returns its name."""
    words = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    name = f"test-{uuid.uuid4().hex[:8]}"
    register_dataset(name)(type("Drawn", (Dataset,), words))
    return name


@pytest.fixture(autouse=True)
def _registry_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    DATASETS.names()  # loads
    monkeypatch.setattr(DATASETS, "_things", dict(DATASETS._things))


def test_a_good_one_is_registered() -> None:
    name = register(
        citation=("A paper.",),
        image_size=64,
        backbone="frozen/resnet18",
        default_imbalance_factor=100,
        class_sizes={"nevus": 3},
        side_range=(10, 20),
        ordered_classes=("mild", "severe"),
        costs={"severe": {"mild": 2.5}},
        recipes={"all": {"epochs": 3}},
        image_root=property(lambda self: self.root),
        title=property(lambda self: "told by its files"),
        _own="anything",
    )
    assert name in DATASETS


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"title": None}, "title is '', but must be text"),
        ({"licence": None, "license": "MIT"}, "reads its license. Did you mean licence?"),
        ({"source": 7}, "source is 7, but must be text"),
        ({"recipe": {"all": {"epochs": 3}}}, "reads its recipe. Did you mean recipes?"),
        ({"split": None}, r"no split; write def split\(self, imbalance_factor, seed\)"),
        ({"records": None}, r"no records; write def records\(self\)"),
        ({"records": property(lambda self: None)}, "records must be a method"),
        ({"split": lambda self, seed: None}, r"split\(self, seed\) can't be called; write def"),
        (
            {"split": lambda self, seed, imbalance_factor: None},
            "split takes seed before imbalance_factor",
        ),
        ({"split": lambda self, factor, seed, fold: None}, "can't be called"),
        ({"__init__": lambda self, root: None}, r"__init__\(self, root\) can't be called"),
        ({"image_root": lambda self: self.root}, "image_root must be a property"),
        ({"citation": "A paper."}, "citation is 'A paper.', but must be a tuple"),
        ({"image_size": "224"}, "image_size is '224', but must be a whole number"),
        ({"image_size": True}, "image_size is True"),
        ({"backbone": "resnet 18"}, "backbone is 'resnet 18', but must be a name"),
        ({"weights": 1}, "weights is 1"),
        ({"weights": "imagenot"}, 'weights is \'imagenot\', but must be "none", "imagenet", "pre'),
        ({"needs_root": "no"}, "needs_root is 'no', but must be True or False"),
        ({"default_imbalance_factor": 0.5}, "default_imbalance_factor is 0.5"),
        ({"class_sizes": {"nevus": "many"}}, "class_sizes is {'nevus': 'many'}"),
        ({"side_range": 224}, "side_range is 224"),
        ({"ordered_classes": ["a", "b"]}, "ordered_classes is .*, but must be a tuple of classes"),
        ({"ordered_classes": ("a",)}, "ordered_classes is .*, but must be a tuple of classes"),
        ({"ordered_classes": ("a", "a")}, "ordered_classes is .*, but must be a tuple of classes"),
        ({"costs": {"a": 1}}, "costs is {'a': 1}, but must say true class → predicted class"),
        ({"costs": {"a": {"b": -1}}}, "costs is .*, but must say true class → predicted class"),
        ({"downloads": "https://example.org"}, "downloads is 'https://example.org'"),
        ({"recipes": [("all", {})]}, "recipes is .*, but must be a table of tables"),
        ({"recipes": {"epochs": 3}}, r"recipes\['epochs'\] is 3, but must be a table of settings"),
    ],
)
def test_ways_to_be_wrong(changes, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as refused:
        register(**changes)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("data set 'test-")


def test_other_classes_are_refused_by_the_registry() -> None:
    with pytest.raises(UserError, match="'other' must be a subclass of Dataset"):
        register_dataset("other")(dict)
