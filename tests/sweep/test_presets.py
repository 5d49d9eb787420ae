"""The sweeps that come with lmdbench."""

from functools import cache
from pathlib import Path

import pytest

from lmdbench.method import METHODS
from lmdbench.request import Experiments, Request
from lmdbench.sweep.file import presets, read_sweep


def plans(sweep, tmp_path, seeds=None):
    """Every chain that the sweep plans, of its first seed unless others are named."""
    experiments = Experiments(tmp_path / "results", tmp_path / "cache", files=False)
    return {
        (setup, entry.label or entry.method, seed): Request(
            setup, entry.method, seed, entry.settings, entry.starts_from
        )
        .plan(experiments.of(setup))
        .chain
        for setup in sweep.setups
        for entry in sweep.entries
        for seed in seeds or sweep.seeds[:1]
    }


def test_names_and_comments():
    assert list(presets()) == ["ablation", "demo", "paper"]
    for name, text in presets().items():
        assert text.startswith("# ")
        sweep = read_sweep(name, None)
        assert (sweep.name, sweep.source) == (name, f"preset {name}")
        assert max(map(len, text.splitlines())) <= 105


def test_a_file_of_the_same_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text('datasets = ["demo"]\nmethods = ["lws"]\n')
    assert [entry.method for entry in read_sweep("demo", None).entries] == ["lws"]
    Path("paper").mkdir()  # a folder is no file
    assert read_sweep("paper", None).source == "preset paper"


def test_demo_plans_without_any_file(tmp_path):
    chains = plans(read_sweep("demo", None), tmp_path, seeds=(0, 1))
    runs = {run.spec.id: run for chain in chains.values() for run in chain}
    assert sorted(run.spec.method for run in runs.values()) == sorted(
        ["ce", "crt", "rrl", "lmd"] * 2
    )
    lengths = {run.spec.method: run.length for run in runs.values()}
    assert lengths["ce"] == lengths["rrl"] == 15


@pytest.fixture(scope="module")
def chains_of(test_data, tmp_path_factory):
    return cache(lambda name: plans(read_sweep(name, test_data), tmp_path_factory.mktemp("plan")))


def test_the_paper_has_every_method_on_every_data_set(chains_of):
    sweep = read_sweep("paper", None)
    assert sweep.seeds == (0, 1, 2, 3, 4)
    assert {entry.method for entry in sweep.entries} <= set(METHODS.names())
    where = [(s.dataset, s.split.imbalance_factor) for s in sweep.setups]
    assert where == [
        ("isic2019", 100.0),
        ("isic2019", 200.0),
        ("isic2019", 500.0),
        ("isic-archive", None),
        ("hyper-kvasir", None),
    ]
    chains = chains_of("paper")
    asked = {chain[-1].spec.id for chain in chains.values()}
    assert len(asked) == 8 * 5
    assert {run.spec.id for chain in chains.values() for run in chain} == asked  # stage 1, too
    for chain in chains.values():
        for run in chain:
            assert not run.changed_settings
            assert (run.spec.backbone, run.spec.image_size) == ("resnet18", 224)
            assert run.length == {"crt": 10, "balms": 10, "lws": 5}.get(
                run.spec.method, 200 if run.spec.method.startswith("lmd") else 100
            )


def test_the_ablation_leaves_out_one_part_at_a_time(chains_of):
    chains = chains_of("ablation")
    assert len({chain[-1].spec.id for chain in chains.values()}) == len(chains) == 5 * 3
    of_paper = {run.spec.id for chain in chains_of("paper").values() for run in chain}
    for (_, label, _), chain in chains.items():
        methods = [run.spec.method for run in chain]
        changed = dict(chain[-1].changed_settings)
        assert (methods, changed) == {
            "LMD": (["rrl", "lmd"], {}),
            "w/o RRL": (["ce", "lmd"], {}),
            "w/o ICC": (["rrl"], {}),
            "w/o VFC": (["rrl", "lmd"], {"calibration": "real"}),
            "w/o FDC": (["rrl", "lmd"], {"fdc_weight": 0.0}),
        }[label]
        assert chain[0].spec.id in of_paper
        assert (chain[-1].spec.id in of_paper) == (label in ("LMD", "w/o ICC"))
