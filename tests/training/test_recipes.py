"""Recipes that act on nothing are told, rather than shown as if they were in force."""

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS
from lmdbench.models.backbones import BACKBONES
from lmdbench.training.method import METHODS
from lmdbench.training.recipes import check_recipes, in_order, recipes_for

OWNER = "data set 'clinic'"


def test_those_that_act_come_from_what_it_trains_to_the_method_itself() -> None:
    recipes = {"crt": {"lr": 0.5}, "all": {"epochs": 3}, "head": {"lr": 0.1}, "ce": {"epochs": 4}}
    assert recipes_for(METHODS.get("ce"), OWNER, recipes) == [{"epochs": 3}, {"epochs": 4}]
    assert recipes_for(METHODS.get("crt"), OWNER, recipes) == [{"lr": 0.1}, {"lr": 0.5}]


def test_a_data_set_has_the_last_word_but_on_what_goes_with_another_optimiser() -> None:
    of_dataset = [{"lr": 0.05, "epochs": 40}]
    assert in_order([{"lr": 0.1}], {"epochs": 3}, of_dataset) == [
        {"lr": 0.1},
        {"epochs": 3},
        {"lr": 0.05, "epochs": 40},
    ]
    adamw = {"optimizer": "adamw", "lr": 1e-4}
    assert in_order([adamw], {}, of_dataset) == [adamw, {}, {"epochs": 40}]


@pytest.mark.parametrize(
    ("recipes", "problem"),
    [
        (
            {"ce": {"epoch": 3}},
            "recipes['ce']: unknown setting of ce 'epoch'. Did you mean epochs?",
        ),
        ({"cee": {"epochs": 3}}, "recipes: unknown method 'cee'. Did you mean ce?"),
        (
            {"head": {"learning_rate": 3}},
            "recipes['head']: unknown setting of method that trains 'head' "
            "'learning_rate'. Did you mean lr?",
        ),
        ({"ce": {"epochs": "3"}}, "recipes['ce']: epochs is '3', but wants a whole number"),
        ({"all": {"epochs": 2.5}}, "recipes['all']: epochs is 2.5, but wants a whole number"),
        ({"all": {"epochs": True}}, "recipes['all']: epochs is True, but wants a whole number"),
        ({"all": {"lr": float("nan")}}, "recipes['all']: lr is nan, but wants a finite number"),
        ({"all": {"schedule": "kosine"}}, "recipes['all']: schedule is 'kosine', but wants one of"),
        ({"ce": {"epochs": -1}}, "recipes: settings of ce: epochs is -1, but must be at least"),
    ],
)
def test_ways_to_be_wrong(recipes, problem: str) -> None:
    with pytest.raises(UserError) as refused:
        recipes_for(METHODS.get("ce"), OWNER, recipes)
    assert str(refused.value).startswith(f"{OWNER}: {problem}")
    assert "\n" not in str(refused.value)


def test_the_built_in_ones_act() -> None:
    tables = [kind.recipes for kind in [*DATASETS.all().values(), *BACKBONES.all().values()]]
    assert any(tables)
    for recipes in tables:
        check_recipes("a built-in one", recipes)


PLUGIN = """
from lmdbench.datasets.demo import Demo
from lmdbench.data.dataset import register_dataset

@register_dataset("slipped")
class Slipped(Demo):
    recipes = {"ce": {"epoch": 3}}
"""


def test_both_show_and_a_plan_tell(lmdbench, tmp_path) -> None:
    plugin = tmp_path / "slipped.py"
    plugin.write_text(PLUGIN)
    run = ("run", "--method", "ce", "--dataset", "slipped", "--dry-run")
    for words in (("datasets", "show", "slipped"), run):
        told = lmdbench(*words, "--plugin", plugin)
        assert (told.code, "Did you mean epochs?" in told.err) == (2, True)
        assert "data set 'slipped': recipes['ce']" in told.err
