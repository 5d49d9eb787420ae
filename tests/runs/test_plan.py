"""What a run is: ids, chains, and when a digest changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.core.registry import load_plugin
from lmdbench.data.dataset import DATASETS, Part, Prepared, Split
from lmdbench.models.backbones import get_backbone, resolve_weights
from lmdbench.runs.plan import ResolvedContext, RunSpec, plan


@pytest.fixture
def context(tmp_path):
    parts = {
        name: Part(np.array([f"{name}{i}" for i in range(4)]), np.array([0, 0, 0, 1]))
        for name in ("train", "validation", "test")
    }
    split = Split("published", ("a", "b"), parts, {"head": ("a",), "tail": ("b",)}, seed=42)
    data = DATASETS.get("folder")(tmp_path, tmp_path)
    small = get_backbone("small")
    return ResolvedContext(
        prepared=Prepared(data, split, {}),
        backbone=small,
        weights=resolve_weights(small, None, "none"),
        image_size=24,
        precision="mixed",
        selection="last",
        results=tmp_path / "results",
    )


SPEC = RunSpec(
    method="ce",
    method_version=1,
    settings={"lr": 0.1},
    selection="last",
    ancestor=None,
    dataset="demo",
    results_name="demo",
    split={"name": "published", "seed": 42, "imbalance_factor": 100.0, "fingerprint": "f"},
    seed=0,
    backbone="small",
    weights="none",
    image_size=48,
    precision="mixed",
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "rrl"),
        ("method_version", 2),
        ("settings", {"lr": 0.2}),
        ("selection", "best"),
        ("ancestor", "x"),
        ("dataset", "isic2019"),
        ("results_name", "demo-2"),
        ("split", {**SPEC.split, "fingerprint": "g"}),
        ("seed", 1),
        ("backbone", "resnet18"),
        ("weights", "IMAGENET1K_V1"),
        ("image_size", 64),
        ("precision", "float32"),
    ],
)
def test_every_scientific_field_changes_the_id(field, value):
    assert replace(SPEC, **{field: value}).id != SPEC.id


@given(st.permutations(["lr", "epochs", "momentum"]))
def test_the_order_of_settings_does_not_change_the_id(order):
    values = {"lr": 0.1, "epochs": 3, "momentum": 0.9}
    shuffled = replace(SPEC, settings={key: values[key] for key in order})
    assert shuffled.id == replace(SPEC, settings=values).id


def test_results_folder_and_data_root_do_not_change_the_id(context, tmp_path):
    elsewhere = replace(context, results=tmp_path / "elsewhere")
    assert plan(context, "ce", 0, {}).spec.id == plan(elsewhere, "ce", 0, {}).spec.id


def test_methods_share_the_run_they_start_from(context):
    runs = [plan(context, name, 3, {}) for name in ("crt", "lws", "balms")]
    assert {run.ancestor.spec.id for run in runs} == {plan(context, "ce", 3, {}).spec.id}
    assert len({run.spec.id for run in runs}) == 3


# Runs of the demo data set's four images at 24 px, as their ids were before methods had settings of
# the optimiser and runs a way of tuning
IDS = {
    "ce": "55b678f155845973",
    "crt": "078246832c418934",
    "lmd": "e80585145598a339",
    "rrl": "e17c395e9d57a8a7",
    "ldam-drw": "cbfc7b4b0a99f7b9",
    "balms": "725dfae80213c77e",
    "weight-balancing": "35eb4551a05b3edb",
}


@pytest.mark.parametrize("method", IDS)
def test_new_settings_leave_the_ids_of_runs_as_they_were(context, tmp_path, method):
    demo = Prepared(DATASETS.get("demo")(tmp_path, tmp_path), context.prepared.split, {})
    assert plan(replace(context, prepared=demo), method, 0, {}).spec.id.startswith(IDS[method])


def test_new_settings_are_part_of_a_runs_identity_where_they_are_changed(context):
    usual = plan(context, "ce", 0, {})
    assert "optimizer" not in usual.spec.settings
    assert plan(context, "ce", 0, {"optimizer": "sgd"}).spec.id == usual.spec.id
    other = plan(context, "ce", 0, {"optimizer": "adamw", "layer_decay": "0.7"})
    assert other.spec.settings["optimizer"] == "adamw"
    assert other.changed_settings == {"optimizer": "adamw", "layer_decay": 0.7}
    assert other.spec.id != usual.spec.id


def test_settings_reach_the_method_and_its_ancestor(context):
    run = plan(context, "crt", 0, {"epochs": "2", "ce.epochs": "5"})
    assert run.spec.settings["epochs"] == 2
    assert run.ancestor.spec.settings["epochs"] == 5
    assert run.changed_settings == {"epochs": 2}
    assert run.spec.id != plan(context, "crt", 0, {"epochs": "2"}).spec.id


def test_starting_from_another_method(context):
    run = plan(context, "lmd", 0, {}, "ce")
    assert run.ancestor.spec.id == plan(context, "ce", 0, {}).spec.id
    assert run.spec.id != plan(context, "lmd", 0, {}).spec.id


@pytest.mark.parametrize(
    ("method", "overrides", "starts_from", "message"),
    [
        ("crt", {"rrl.epochs": "5"}, None, "crt does not start from rrl: ce → crt"),
        ("crt", {"epoch": "5"}, None, "unknown setting of crt 'epoch'. Did you mean epochs"),
        ("ce", {}, "rrl", "ce starts from no other run"),
        ("crt", {}, "cee", "unknown method 'cee'. Did you mean ce"),
    ],
)
def test_mistakes_in_a_chain_are_named(context, method, overrides, starts_from, message):
    with pytest.raises(UserError, match=message):
        plan(context, method, 0, overrides, starts_from)


@pytest.fixture
def without_validation(context):
    split = context.prepared.split
    empty = Part(np.array([], dtype=str), np.array([], dtype=np.int64))
    changed = replace(split, parts={**split.parts, "validation": empty})
    return replace(context, prepared=replace(context.prepared, split=changed))


def test_the_best_epoch_needs_validation_images(without_validation):
    assert plan(without_validation, "ce", 0, {})
    with pytest.raises(UserError, match="no validation images"):
        plan(replace(without_validation, selection="best"), "ce", 0, {})


def test_methods_that_need_validation_images_are_refused_before_anything_is_trained(
    context, without_validation
):
    assert plan(context, "tau-norm", 0, {})
    assert plan(context, "ecl", 0, {})
    with pytest.raises(UserError, match=r"tau-norm chooses tau on .* \(--set tau-norm\.tau=…\)"):
        plan(without_validation, "tau-norm", 0, {})
    assert plan(without_validation, "tau-norm", 0, {"tau": "0.7"})
    with pytest.raises(UserError, match="ecl looks at validation images while it trains, and this"):
        plan(without_validation, "ecl", 0, {})


def plugin(tmp_path, body: str) -> str:
    """A method of that body, registered under the test folder's name."""
    path = tmp_path / f"{tmp_path.name}.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "from lmdbench.training.method import Method, Start, register_method\n"
        f"@register_method({tmp_path.name!r})\nclass Mine(Method):\n    {body}\n"
        "    def loss(self, batch): ...\n"
    )
    load_plugin(path)
    return tmp_path.name


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            'starts_from = Start("ce", nosuch=3)',
            "unknown setting of ce, which .* asks for, 'nosuch'",
        ),
        ('starts_from = "cee"', r"unknown method \(which .* starts from\) 'cee'. Did you mean ce"),
        ('sampler = "balanced"', "unknown sampler 'balanced'. Did you mean class-balanced"),
        ('views = ("week",)', "unknown view 'week'. Did you mean weak"),
        ('views = "weak"', "views must be a tuple"),
        ('chosen_on_validation = ("bias",)', "chosen_on_validation: unknown setting 'bias'"),
        ('chosen_on_validation = ("lr",)', "its setting lr must be None where it is chosen"),
    ],
)
def test_mistakes_of_a_methods_author_are_named(context, tmp_path, body, message):
    with pytest.raises(UserError, match=message):
        plan(context, plugin(tmp_path, body), 0, {})


def test_a_method_cannot_start_from_itself(context, tmp_path):
    name = plugin(tmp_path, f'starts_from = "{tmp_path.name}"')
    with pytest.raises(UserError, match="can't start from itself"):
        plan(context, name, 0, {})


def test_a_data_set_has_the_last_word_over_what_a_method_asks_of_its_stage_1(lmdbench):
    """And the user after both."""
    dry = ("run", "--method", "lmd-released", "--dataset", "demo", "--dry-run", "--json")
    for words, batch_size in ((), 64), (("--set", "rrl.batch_size=16"), 16):
        (planned,) = json.loads(lmdbench(*dry, *words).out)
        settings = planned["starts_from"]["settings"]
        assert (settings["batch_size"], settings["channel_mean"]) == (batch_size, "images")


def test_recipes_come_in_order(context, monkeypatch):
    """The method's default, the backbone's, the data set's, the user's: the later one counts."""
    backbone = {"lr": 0.3, "momentum": 0.5, "weight_decay": 0.1}
    with_recipes = replace(context.backbone, recipes={"ce": backbone})
    dataset = {"ce": {"lr": 0.2, "weight_decay": 0.2}}
    monkeypatch.setattr(context.prepared.dataset, "recipes", dataset)
    run = plan(replace(context, backbone=with_recipes), "ce", 0, {"weight_decay": "0.3"})
    settings = run.spec.settings
    found = [settings[key] for key in ("batch_size", "momentum", "lr", "weight_decay")]
    assert found == [128, 0.5, 0.2, 0.3]
