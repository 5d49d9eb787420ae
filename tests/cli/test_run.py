"""`lmdbench run`: plans, mistakes, and what a person and a program read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.cli.options import parse_numbers
from lmdbench.cli.run import parse_assignments
from lmdbench.core.errors import UserError

SHORT = ("--set", "epochs=1")


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", [0]), ("0-3", [0, 1, 2, 3]), ("5,0,2", [0, 2, 5]), ("0-1,1", [0, 1])]
)
def test_seeds(text, seeds):
    assert parse_numbers(text, "--seeds") == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "3-1", "1.5", "0-", "0,,1"])
def test_seeds_that_are_none(text):
    with pytest.raises(UserError, match="such as 0, 0-4"):
        parse_numbers(text, "--seeds")


@given(st.sets(st.integers(0, 50), min_size=1))
def test_a_list_of_seeds_comes_back_sorted(seeds):
    assert parse_numbers(",".join(map(str, seeds)), "--seeds") == sorted(seeds)


def test_assignments():
    assert parse_assignments(("a=1", "rrl.b = x=y")) == {"a": "1", "rrl.b": "x=y"}
    for wrong in (("a",), ("=1",), ("a=1", "a=2")):
        with pytest.raises(UserError, match="--set"):
            parse_assignments(wrong)


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("lmb", (), "unknown method 'lmb'. Did you mean lmd"),
        ("ce", ("--dataset", "isic"), "unknown data set 'isic'. Did you mean isic2019 or isic-ar"),
        ("ce", ("--backbone", "resnet"), "unknown backbone 'resnet'. Did you mean"),
        ("ce", ("--set", "epoch=1"), "unknown setting of ce 'epoch'. Did you mean epochs?"),
        ("ce", ("--set", "epochs=ten"), "ce.epochs is 'ten', but wants a whole number"),
        ("ce", ("--set", "batch_size=0"), "batch_size is 0, but must be at least 1"),
        ("ce", ("--set", "momentum=1"), "momentum is 1.0, but must be below 1"),
        ("lmd", ("--set", "momentum=1"), "momentum is 1.0, but must be below 1"),
        ("lmd", ("--set", "gce_q=0"), "gce_q is 0.0, but must be above 0"),
        ("mrc-vfc", ("--set", "gce_q=2"), "gce_q is 2.0, but must be at most 1"),
        ("supcon", ("--set", "temperature=0"), "temperature is 0.0, but must be above 0"),
        ("ldam-drw", ("--set", "beta=1"), "beta is 1.0, but must be below 1"),
        ("ce", ("--seeds", "one"), "--seeds 'one'"),
        ("ce", ("--image-size", "big"), "--image-size 'big'"),
        ("ce", ("--device", "tpu"), "--device 'tpu': give auto, cpu"),
        ("ce", ("--weights", "absent.pth"), "absent.pth"),
        ("ce", ("--weights", "imagenet"), "small"),
        ("ce", ("--imbalance-factor", "0.5"), "imbalance factor"),
        ("ce", ("--data-root", "/absent"), "/absent"),
        ("crt", ("--starts-from", "nothing"), "unknown method 'nothing'"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(toy_run, tmp_path, method, words, message):
    outcome = toy_run(method, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert outcome.out == ""
    assert not (tmp_path / "results").exists()


def test_a_dry_run_shows_the_chain_and_makes_nothing(toy_run, tmp_path):
    outcome = toy_run("lmd", "--dry-run")
    assert outcome.code == 0
    assert outcome.err.index("rrl seed 0: to train") < outcome.err.index("lmd seed 0 from rrl")
    assert not (tmp_path / "results").exists()


def test_a_dry_run_names_the_nearest_run(toy_run):
    toy_run("ce", *SHORT)
    outcome = toy_run("ce", "--set", "epochs=2", "--dry-run")
    assert "differs in epochs 1 → 2" in outcome.err
    assert "to train (2 epochs) " in outcome.err
    assert "to train (1 epoch) " in toy_run("rs", *SHORT, "--dry-run").err


def test_json_is_all_there_is_on_standard_output(toy_run):
    outcome = toy_run("crt", *SHORT, "--set", "ce.epochs=1", "--json", "--seeds", "0-1")
    first, second = json.loads(outcome.out)
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["state"] == "finished"
    assert first["starts_from"]["method"] == "ce"
    assert 0 <= first["scores"]["test"]["balanced_accuracy"] <= 1


def test_quiet_says_nothing(toy_run):
    outcome = toy_run("ce", *SHORT, "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_plain_lines_where_there_is_no_terminal(toy_run):
    outcome = toy_run("ce", *SHORT)
    assert "ce seed 0: epoch 1/1  loss" in outcome.err
    assert "validation" in outcome.err
    assert "left" in outcome.err
    assert "\x1b" not in outcome.err + outcome.out
    assert "Balanced accuracy" in outcome.out
    assert "results: " in outcome.out


def test_the_best_epoch_is_another_run(toy_run, tmp_path):
    toy_run("ce", "--set", "epochs=3")
    toy_run("ce", "--set", "epochs=3", "--selection", "best")
    records = [
        json.loads(path.read_text())
        for path in (tmp_path / "results").glob("*/*/ce/seed0-*/run.json")
    ]
    selected = {r["spec"]["selection"]: r["selected_epoch"] for r in records}
    assert selected["last"] == 3
    assert 1 <= selected["best"] <= 3


def test_starting_from_another_method_and_from_a_given_run(toy_run, tmp_path):
    short = ("--set", "rounds=1", "--set", "virtual_per_class=20")
    assert toy_run("lmd", *short, "--starts-from", "ce", "--set", "ce.epochs=1").code == 0
    (ce,) = (tmp_path / "results").glob("*/*/ce/seed0-*")
    by_id = toy_run("lmd", *short, "--starts-from", ce.name.removeprefix("seed0-"))
    by_directory = toy_run("lmd", *short, "--starts-from", ce)
    for outcome in (by_id, by_directory):
        assert outcome.code == 0
        assert "lmd seed 0 from ce: finished" in outcome.err


def test_a_directory_that_is_no_run(toy_run, tmp_path):
    outcome = toy_run("crt", "--starts-from", tmp_path)
    assert outcome.code == 2
    assert "no run.json" in outcome.err


def test_settings_of_a_given_ancestor_are_refused(toy_run, tmp_path):
    toy_run("ce", *SHORT)
    (ce,) = (tmp_path / "results").glob("*/*/ce/seed0-*")
    outcome = toy_run("crt", "--starts-from", ce, "--set", "ce.epochs=3")
    assert outcome.code == 2
    assert "given and finished" in outcome.err


@pytest.mark.parametrize("method", ["ce", "focal", "crt", "lws", "balms", "rrl"])
def test_every_method_runs(toy_run, method):
    words = ("--set", "ce.epochs=1") if method in ("crt", "lws", "balms") else ()
    assert toy_run(method, *SHORT, *words).code == 0


@pytest.mark.parametrize("dataset", ["isic2019", "hyper-kvasir"])
def test_real_images(lmdbench, test_data, tmp_path, dataset):
    """Official tables and real images, most of them missing here: refused, then allowed."""
    words = ("run", "--method", "ce", "--dataset", dataset, "--data-root", test_data, *SHORT)
    small = ("--backbone", "small", "--image-size", 16, "--results", tmp_path)
    refused = lmdbench(*words, *small)
    assert refused.code == 2
    assert "are missing" in refused.err
    assert "--allow-missing" in refused.err
    allowed = lmdbench(*words, *small, "--allow-missing", "--json")
    assert allowed.code == 0
    assert "partial" in allowed.err
    (run,) = json.loads(allowed.out)
    record = json.loads(next(tmp_path.glob("*/*/ce/seed0-*/run.json")).read_text())
    assert record["partial"]["missing"] > 0
    assert run["directory"].count("partial") == 1


def test_damaged_images_are_refused_then_left_out(lmdbench, toy_folder, tmp_path):
    root, results = tmp_path / "toy", tmp_path / "results"
    root.mkdir()
    for path in toy_folder.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    words = ("run", "--method", "ce", "--dataset", "folder", "--data-root", root, *SHORT)
    words = (*words, "--backbone", "small", "--image-size", 24, "--results", results)
    whole = lmdbench(*words, "--skip-damaged", "--json")
    assert "partial" not in whole.err
    same = lmdbench(*words, "--json")
    ids = [json.loads(outcome.out)[0]["id"] for outcome in (whole, same)]
    assert ids[0] == ids[1]

    (root / "round-0.png").write_bytes(b"<html>404</html>")
    (root / "striped-0.png").write_bytes(b"")
    refused = lmdbench(*words)
    assert refused.code == 2
    assert "2 of 53 images of folder-toy cannot be read" in refused.err
    assert "--skip-damaged (in a sweep: skip_damaged = true)" in refused.err
    left = lmdbench(*words, "--skip-damaged")
    assert left.code == 0
    assert f"left out: 2 damaged images, {root}/round-0.png (not an image)" in left.err
    assert "partial: 51 of 53 images, 2 damaged images left out" in left.err
    record = json.loads(next(results.glob("*/given-partial/ce/seed0-*/run.json")).read_text())
    assert record["partial"]["damaged"] == ["round-0.png", "striped-0.png"]
    assert record["id"] not in ids
    again = lmdbench(*words, "--skip-damaged", "--dry-run", "--json")
    assert json.loads(again.out)[0]["state"] == "finished"
    table = lmdbench("compare", "--results", results, "--split", "given-partial")
    told = "51 of 53 images. 2 damaged images left out: round-0.png, striped-0.png."
    assert told in " ".join(table.out.split())
    folder = ("--data-root", root, "--results", results)
    assert lmdbench("data", "audit", "folder", *folder, "--skip-damaged").code in (0, 1)
    fingerprint = record["spec"]["split"]["fingerprint"]
    assert [*results.glob(f"*/given-partial/audit-{fingerprint[:8]}*")]
    shown = lmdbench("datasets", "show", "folder", "--data-root", root, "--skip-damaged").out
    assert "damaged    round-0.png, striped-0.png: left out" in shown
    assert fingerprint in shown


def test_groups_are_no_part_of_a_run_and_compare_takes_its_own(toy_run, lmdbench, tmp_path):
    words = ("--set", "epochs=1", "--set", "ce.epochs=1")
    assert toy_run("crt", *words).code == 0
    chosen = "head=round,striped;tail=dotted,rare"
    again = toy_run("crt", *words, "--groups", chosen)
    assert again.code == 0
    assert "crt seed 0 from ce: finished" in again.err
    assert "groups: head round, striped; tail dotted, rare (as listed)" in again.out
    assert "recorded with other groups" in again.out
    compared = ("compare", "--results", tmp_path / "results", "--json")
    (block,) = json.loads(lmdbench(*compared, "--groups", chosen).out)["blocks"]
    assert block["groups"] == {"head": ["round", "striped"], "tail": ["dotted", "rare"]}
    assert "groups" not in " ".join(row["label"] for row in block["rows"])


def test_a_run_of_every_fold_makes_one_table(toy_run, lmdbench, tmp_path):
    outcome = toy_run("ce", "--split", "kfold", "--folds", 2, "--set", "epochs=1")
    assert outcome.code == 0, outcome.err
    assert "ce seed 0 fold 1: to train" in outcome.err
    assert "All folds and seeds together" in outcome.out
    words = ("compare", "--results", tmp_path / "results", "--json")
    (block,) = json.loads(lmdbench(*words).out)["blocks"]
    assert block["title"] == "folder-" + block["results_name"][7:] + " · kfold2 · test images"
    assert block["images"]["test"]["all"] == 53
    assert len(json.loads(lmdbench(*words, "--folds", "each").out)["blocks"]) == 2
