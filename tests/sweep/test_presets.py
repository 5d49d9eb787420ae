"""The sweeps that come with lmdbench."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from lmdbench.runs.request import Contexts, RunRequest
from lmdbench.sweep.config.file import presets, read_sweep
from lmdbench.training.method import METHODS, built_in_methods


def plans(sweep, tmp_path, seeds=None):
    """Every chain that the sweep plans, of its first seed unless others are named."""
    contexts = Contexts(tmp_path / "results", tmp_path / "cache", files=False)
    return {
        (setup, entry.label or entry.method, seed): RunRequest(
            setup, entry.method, seed, entry.settings, entry.starts_from
        )
        .plan(contexts.of(setup))
        .chain
        for setup in sweep.setups
        for entry in sweep.entries
        for seed in seeds or sweep.seeds[:1]
    }


def test_names_and_comments():
    assert list(presets()) == [
        *("ablation", "demo", "foundation", "linear-probe", "paper", "what-makes-it-work")
    ]
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
    others = [run for chain in chains.values() for run in chain if run.spec.id not in asked]
    released = dict(METHODS.get("lmd-released").starts_from.settings)
    assert len({run.spec.id for run in others}) == 5  # stage 1 is asked for, too, but for this one
    assert all(run.spec.settings.items() >= released.items() for run in others)
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


def rows_of(chains):
    """Label → methods of the chain, settings of the last one, settings of the one before."""
    return {
        label: (
            [run.spec.method for run in chain],
            dict(chain[-1].changed_settings),
            dict(chain[0].changed_settings) if len(chain) > 1 else {},
        )
        for (_, label, _), chain in chains.items()
    }


PUBLISHED = {
    "label_loss": "ce",
    "through_head": True,
    "fdc_weight": 1e-4,
    "gaussians": "training-set",
}
STAGE_1 = ("batch_weight", "channel_weight", "prob_weight")


def test_what_makes_it_work_takes_one_step_at_a_time(chains_of):
    chains = chains_of("what-makes-it-work")
    assert len({chain[-1].spec.id for chain in chains.values()}) == len(chains) == 26
    ends = [row for label, row in rows_of(chains).items() if row[0][-1] not in ("ce", "rrl")]
    steps = [len(own) + len(start) for _, own, start in ends]
    # 2: two of three losses are off, or stage 1 as the other end has it
    assert sorted(steps) == [0] * 7 + [1] * 11 + [2] * 5 + [4]
    rows = rows_of(chains)
    for label, kept in zip(("L_batch", "L_channel", "L_prob"), STAGE_1, strict=True):
        off = {weight: 0.0 for weight in STAGE_1 if weight != kept}
        assert rows[f"{label} alone"] == (["rrl", "lmd"], {}, off)
    assert rows["w/o E-step"] == (["rrl", "lmd"], {"encoder_lr": 0.0}, {})
    assert rows["w/o VFC, one pass"] == (["rrl", "lmd"], {"calibration": "real-once"}, {})
    assert rows["w/o RRL"] == (["ce", "lmd"], {}, {})
    for label, start in (("SAM", "sam"), ("ProCo", "proco"), ("CUDA", "cuda")):
        assert rows[f"{label} for RRL"] == ([start, "lmd"], {}, {})
    assert rows["LMD, released order"] == (["rrl", "lmd-released"], PUBLISHED, {})


def test_every_setting_between_published_and_released_has_a_row_from_either_end(chains_of):
    ours, theirs = (METHODS.get(name).Settings() for name in ("lmd", "lmd-released"))
    differing = {key for key, value in vars(ours).items() if value != vars(theirs)[key]}
    assert differing == set(PUBLISHED)
    rows = rows_of(chains_of("what-makes-it-work")).values()
    for key in differing:
        wanted = [(["rrl", "lmd"], {key: getattr(theirs, key)}, {})]
        if key != "label_loss":  # of lmd-released it moves nothing
            wanted.append((["rrl", "lmd-released"], {key: getattr(ours, key)}, {}))
        assert all(row in rows for row in wanted), key
    released = dict(METHODS.get("lmd-released").starts_from.settings)
    mine = {key: getattr(METHODS.get("rrl").Settings(), key) for key in released}
    assert (["rrl", "lmd"], {}, released) in rows
    assert (["rrl", "lmd-released"], {}, mine) in rows


def test_the_paper_and_the_ablation_share_their_runs_with_it(chains_of):
    here = {chain[-1].spec.id for chain in chains_of("what-makes-it-work").values()}
    (setup,) = {setup for setup, _, _ in chains_of("what-makes-it-work")}
    for name in ("ablation", "paper"):
        for (where, label, _), chain in chains_of(name).items():
            if where == setup and chain[-1].spec.method in ("ce", "rrl", "lmd", "lmd-released"):
                assert chain[-1].spec.id in here, label


def test_it_plans_on_demo_as_its_comment_says(tmp_path):
    text = presets()["what-makes-it-work"]
    block = text[text.index("\n[[datasets]]\n") : text.index("# The ends")]
    assert len(block.strip().splitlines()) == 3
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace(block, '\ndatasets = ["demo"]\n'))
    chains = plans(read_sweep(str(mine), None), tmp_path)
    assert len({chain[-1].spec.id for chain in chains.values()}) == 26
    assert len({run.spec.id for chain in chains.values() for run in chain}) == 35


def test_the_page_on_ablations_names_every_row_and_runs_it_so(chains_of):
    """Each row of the preset stands in the page with words that come to the same settings."""
    page = (Path(__file__).parents[2] / "docs" / "ablations.md").read_text()
    shown = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and "--method" in cells[-1]:
            words = cells[-1].strip("`").removeprefix("lmdbench run ").split()
            options = list(zip(words[::2], words[1::2], strict=True))
            sets = dict(value.split("=", 1) for key, value in options if key == "--set")
            label = cells[0].split(":")[0].removesuffix(" (above)")
            first = (dict(options)["--method"], dict(options).get("--starts-from"), sets)
            assert shown.setdefault(label, first) == first
    parsed = {
        entry.label: (
            entry.method,
            entry.starts_from,
            {key: float(v) if is_number(v) else v for key, v in entry.settings.items()},
        )
        for entry in read_sweep("what-makes-it-work", None).entries
        if entry.method != "mrc-vfc"
    }
    assert parsed == {
        label: (method, start, {k: float(v) if is_number(v) else v for k, v in sets.items()})
        for label, (method, start, sets) in shown.items()
    }


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def can_be_frozen(name):
    """Whether a method of lmdbench needs one view of an image, and no more of the encoder."""
    method = METHODS.get(name)
    start = getattr(method.starts_from, "method", method.starts_from)
    return (
        not method.needs_images and len(method.views) == 1 and (not start or can_be_frozen(start))
    )


def test_linear_probe_has_every_head_that_a_frozen_encoder_allows(chains_of):
    """But cicl and cc-sam: started from ce, they are crt's training and one on mixed images."""
    sweep = read_sweep("linear-probe", None)
    built_in = {method.name for method in built_in_methods()}
    icc = {"lmd", "lmd-released", "mrc-vfc", "mislas"}
    assert {e.method for e in sweep.entries} == {m for m in built_in if can_be_frozen(m)} | icc
    assert {setup.backbone for setup in sweep.setups} == {"frozen/efficientnet-lite0"}
    for chain in chains_of("linear-probe").values():
        assert all(run.context.backbone.frozen for run in chain)
        assert all(run.spec.settings.get("epochs", 30) == 30 for run in chain)


def test_foundation_crosses_backbones_tunings_and_methods_without_weights(test_data, tmp_path):
    pytest.importorskip("timm")
    sweep = read_sweep("foundation", test_data)
    assert len(sweep.setups) == 2 * 3 * 3
    assert {setup.tuning for setup in sweep.setups} == {"head", "lora", "full"}
    first = next(iter(sweep.setups))
    contexts = Contexts(tmp_path / "results", tmp_path / "cache", files=False)
    for tuning, name in (("head", "frozen/"), ("lora", ""), ("full", "")):
        context = contexts.of(replace(first, tuning=tuning))
        assert context.backbone.name == f"{name}timm/vit_small_patch14_dinov2.lvd142m"
        assert "dinov2" in context.weights.identity
        run = RunRequest(replace(first, tuning=tuning), "crt", 0).plan(context)
        assert [link.spec.method for link in run.chain] == ["ce", "crt"]
