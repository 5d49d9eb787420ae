"""``lmdbench plot``: kinds, files and their names, and one-line errors."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from lmdbench.evaluation import metrics

BY_BLOCK = (
    *("per-class", "groups", "forest", "confusion", "reliability", "curves"),
    "rank-stability",
)
OF_A_CLASS = ("roc", "precision-recall", "decision-curve", "operating-points")
HISTORY = "epoch,loss,validation_balanced_accuracy\n1,2.0,0.1\n2,1.0,0.3\n"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(fake_run):
    """Two seeds of ce and lmd on the data set skin."""
    for method, skill in (("ce", 0.5), ("lmd", 2.0)):
        for seed in (0, 1):
            directory = fake_run(method, seed, skill=skill)
            (directory / "history.csv").write_text(HISTORY)


def test_without_a_kind_the_kinds_are_listed(lmdbench):
    outcome = lmdbench("plot")
    assert outcome.code == 0
    for kind in (*BY_BLOCK, *OF_A_CLASS, "embedding", "critical-difference"):
        assert f"\n{kind} " in outcome.out


def test_a_wrong_kind_is_answered_with_the_near_one(lmdbench):
    outcome = lmdbench("plot", "forrest")
    assert outcome.code == 2
    assert "forest" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("kind", BY_BLOCK)
def test_each_kind_is_drawn_and_what_was_written_is_said(lmdbench, runs, tmp_path, kind):
    outcome = lmdbench("plot", kind, "--output", "figure.png")
    assert (outcome.code, outcome.err) == (0, "written: figure.png\n")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width == 1400  # 7 inches of 200 dots


@pytest.mark.parametrize("kind", BY_BLOCK)
def test_a_bare_figure_is_cut_and_its_caption_printed(lmdbench, runs, tmp_path, kind):
    assert lmdbench("plot", kind, "--output", "whole.png").code == 0
    outcome = lmdbench("plot", kind, "--output", "bare.png", "--bare")
    assert (outcome.code, outcome.err) == (0, "written: bare.png\n")
    path, *caption = outcome.out.splitlines()
    assert path == "bare.png"
    assert any("skin · plain-if100" in line for line in caption)
    assert "Seeds 0, 1" in " ".join(caption)
    with Image.open(tmp_path / "whole.png") as whole, Image.open(tmp_path / "bare.png") as bare:
        assert bare.height < whole.height
        assert bare.width <= whole.width + 10


@pytest.mark.parametrize("kind", OF_A_CLASS)
def test_curves_are_of_the_class_that_is_named(lmdbench, runs, tmp_path, kind):
    outcome = lmdbench("plot", kind, "--class", "mel_a")
    assert (outcome.code, outcome.err) == (0, f"written: {kind}-mel_a-skin-plain-if100.pdf\n")
    assert (tmp_path / f"{kind}-mel_a-skin-plain-if100.pdf").read_bytes().startswith(b"%PDF")
    wrong = lmdbench("plot", kind, "--class", "MEL_A")
    assert wrong.code == 2
    assert wrong.err == (
        "lmdbench: unknown class 'MEL_A'. Did you mean mel_a? Known: nv, mel_a, bcc, df.\n"
    )


def test_without_a_class_curves_are_means_but_net_benefit_has_none(lmdbench, runs, monkeypatch):
    outcome = lmdbench("plot", "roc", "--bare", "--output", "roc.svg")
    assert outcome.code == 0, outcome.err
    assert "ROC: each class against the rest, mean of 4" in outcome.out
    monkeypatch.setattr(metrics.Scorer, "__init__", None)  # refused before anything is scored
    refused = lmdbench("plot", "decision-curve")
    assert (refused.code, "name it by --class: nv, mel_a, bcc, df" in refused.err) == (2, True)


def test_probabilities_of_a_plot_are_calibrated_where_that_is_asked_for(lmdbench, runs, tmp_path):
    words = "plot", "decision-curve", "--bare", "--class", "bcc"
    plain = lmdbench(*words, "--output", "plain.svg")
    fitted = lmdbench(*words, "--calibrate", "temperature", "--output", "fitted.svg")
    assert (plain.code, fitted.code) == (0, 0), fitted.err
    assert (tmp_path / "plain.svg").read_bytes() != (tmp_path / "fitted.svg").read_bytes()
    assert "not recalibrated: they hold under the class's share" in " ".join(plain.out.split())
    caption = " ".join(fitted.out.split())
    assert "test images · temperature-scaled" in caption
    assert (
        "Probabilities are recalibrated (temperature-scaled): they hold under the class's share"
        in caption
    )
    shifted = lmdbench(*words, "--prior", "uniform", "--output", "shifted.svg")
    assert "Probabilities are recalibrated (prior uniform). Net" in " ".join(shifted.out.split())


def test_a_class_of_one_data_set_alone_does_not_keep_the_rest(lmdbench, runs, fake_run, tmp_path):
    fake_run("ce", dataset="bowel", record={"classes": ["nv", "polyp", "bcc", "df"], "groups": {}})
    outcome = lmdbench("plot", "roc", "--class", "polyp", "--output", "roc.svg")
    assert outcome.code == 0, outcome.err
    assert [path.name for path in tmp_path.glob("*.svg")] == ["roc.svg"]
    assert "not drawn: unknown class 'polyp'" in outcome.err


def test_a_default_name_is_new_and_a_given_one_is_written_over(lmdbench, runs, tmp_path):
    outcome = lmdbench("plot", "groups")
    assert outcome.err == "written: groups-skin-plain-if100.pdf\n"
    path = tmp_path / "groups-skin-plain-if100.pdf"
    before = path.read_bytes()
    assert before.startswith(b"%PDF")
    again = lmdbench("plot", "groups", "--width", 5)
    assert again.code == 2
    assert "is there already; --output groups-skin-plain-if100.pdf writes over it" in again.err
    assert path.read_bytes() == before
    assert lmdbench("plot", "groups", "--width", 5, "--output", path).code == 0
    assert path.read_bytes() != before


def test_each_table_is_a_file_of_its_own(lmdbench, runs, fake_run, tmp_path):
    fake_run("ce", backbone="resnet50")
    fake_run("ce", dataset="bowel")
    outcome = lmdbench("plot", "groups", "--output", "g.svg")
    assert outcome.code == 0, outcome.err
    names = {path.name for path in tmp_path.glob("*.svg")}
    assert names == {
        "g-bowel-plain-if100.svg",
        "g-skin-plain-if100.svg",
        "g-skin-plain-if100-2.svg",
    }
    for name in names:
        assert name in outcome.err
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")


def test_what_cannot_be_drawn_does_not_keep_the_rest(lmdbench, runs, fake_run, tmp_path):
    fake_run("ce", dataset="bowel")  # without the reference
    outcome = lmdbench("plot", "forest", "--output", "f.svg")
    assert outcome.code == 0
    assert [path.name for path in tmp_path.glob("*.svg")] == ["f.svg"]
    assert "not drawn: bowel" in outcome.err
    alone = lmdbench("plot", "forest", "--dataset", "bowel", "--output", "b.svg")
    assert alone.code == 2
    assert "--reference" in alone.err
    assert alone.err.count("\n") == 1
    assert not (tmp_path / "b.svg").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("groups", "--output", "a.jpeg"), "must end in .png, .pdf, .svg"),
        (("groups", "--output", "none/a.pdf"), "no folder none"),
        (("groups", "--width", "1"), "--width 1: give 3.3 to 40 inches"),
        (("groups", "--run", "x"), "--run is for `lmdbench plot embedding`"),
        (("groups", "--images", "3"), "--images is for `lmdbench plot embedding`"),
        (("groups", "--class", "df"), "--class is for `lmdbench plot decision-curve`"),
        (("groups", "--fraction"), "plots are in percent"),
        (("groups", "--metric", "accuracy"), "leave --metric out"),
        (("groups", "--method", "crt"), "crt"),
        (("critical-difference",), "takes 8 data sets and splits, here are 1"),
        (("embedding",), "an embedding is of one run, here are 2 rows: ce, lmd"),
        (("embedding", "--images", "0"), "--images 0: give 1 or more"),
        (("embedding", "--run", "nothing"), "neither a run directory nor the id of a run"),
    ],
)
def test_mistakes_are_one_line(lmdbench, runs, tmp_path, words, said):
    before = set(tmp_path.iterdir())
    outcome = lmdbench("plot", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("words", [("critical-difference",), ("embedding",)])
def test_what_cannot_be_drawn_is_told_before_predictions_are_read(lmdbench, runs, tmp_path, words):
    for path in tmp_path.glob("results/*/*/*/*/predictions.npz"):
        path.write_bytes(b"damaged")
        os.utime(path, (0, 0))  # not written since the run was done: only who reads it can tell
    outcome = lmdbench("plot", *words)
    assert ("takes 8 data sets" in outcome.err) or ("is of one run, here are 2" in outcome.err)
    assert lmdbench("plot", "groups").code == 2


@pytest.mark.parametrize("pruned", [False, True])
def test_an_embedding_without_weights_is_refused_before_a_device_is_looked_for(
    lmdbench, runs, tmp_path, pruned
):
    directory = next(tmp_path.glob("results/*/*/ce/seed0-*"))
    if pruned:
        (directory / "pruned.txt").write_text("2026-01-02\n")
    words = ("plot", "embedding", "--run", directory, "--device", "no-device")
    outcome = lmdbench(*words)
    assert outcome.code == 2
    assert ("pruned on 2026-01-02" if pruned else "without its weights") in outcome.err
    (tmp_path / f"embedding-skin-ce-{directory.name}.pdf").touch()
    assert "is there already; --output" in lmdbench(*words).err


def test_an_embedding_of_a_run_that_was_trained(lmdbench, toy_run, toy_folder, tmp_path):
    assert toy_run("crt", "--set", "epochs=1", "--set", "ce.epochs=1").code == 0
    (directory,) = tmp_path.glob("results/*/*/crt/seed0-*")
    words = ("plot", "embedding", "--data-root", toy_folder, "--device", "cpu")
    by_name = lmdbench(*words, "--run", directory, "--output", "a.svg")
    assert by_name.code == 0, by_name.err
    chosen = lmdbench(*words, "--method", "crt", "--output", "b.svg")
    assert chosen.code == 0, chosen.err
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    fewer = lmdbench(*words, "--method", "crt", "--images", 2, "--output", "b.svg")
    assert fewer.code == 0
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_torch_is_not_imported_to_plot_predictions(runs):
    code = (
        "import sys; sys.argv = ['lmdbench', 'plot', 'confusion', '--output', 'c.svg']\n"
        "from lmdbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_whatever_a_plug_ins_plot_raises_is_one_line_and_others_are_drawn(
    lmdbench, fake_run, tmp_path
):
    fake_run("ce", dataset="skin")
    fake_run("ce", dataset="lung")
    path = tmp_path / "breaks_here.py"
    path.write_text(
        "from matplotlib.figure import Figure\nfrom lmdbench import register_plot\n\n\n"
        "@register_plot('breaks-here', title='Breaks')\n"
        "def breaks(table, width):\n"
        "    return Figure() if table.setting['results_name'] == 'lung' else table.rows[9]\n"
    )
    outcome = lmdbench("plot", "breaks-here", "--plugin", path)
    assert "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if "not drawn" in line]
    assert line.endswith(
        "plot 'breaks-here' of plug-in breaks_here raised IndexError: tuple index out of range"
    )
    assert len(list(tmp_path.glob("breaks-here-lung*.pdf"))) == 1
