import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from lmdbench.cli.datasets import datasets
from lmdbench.cli.options import make_dataset
from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache
from lmdbench.data.dataset import sha256_lines


def lmdbench(*args: str, **environment: str) -> str:
    """What ``lmdbench datasets`` prints; a UserError is raised, as it is to the entry point."""
    environment = {"LMDBENCH_DATA": "", **environment}
    result = CliRunner().invoke(datasets, args, env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_listing() -> None:
    text = lmdbench()
    assert "isic2019" in text
    assert "25,331" in text
    listing = {entry["name"]: entry for entry in json.loads(lmdbench("--json"))}
    assert {"isic2019", "hyper-kvasir", "folder"} <= set(listing)
    assert listing["hyper-kvasir"]["classes"] == 23
    assert listing["hyper-kvasir"]["images"] == 10662
    assert listing["folder"]["images"] is None


def test_show_has_the_recipe_that_a_data_set_brings() -> None:
    recipes = json.loads(lmdbench("show", "demo", "--json"))["recipes"]
    assert recipes["head"] == {"batch_size": 64, "lr": 0.1}
    text = lmdbench("show", "demo")
    assert "recipe     methods that train the whole network: epochs=20, batch_size=64," in text
    assert "\n           methods that train a head: batch_size=64, lr=0.1\n" in text


def test_show_isic_from_tables(test_data: Path) -> None:
    facts = json.loads(lmdbench("show", "isic2019", "--data-root", str(test_data), "--json"))
    assert facts["name"] == "isic2019"
    assert facts["split"]["seed"] == 42
    assert facts["split"]["imbalance_factor"] == 100
    assert facts["split"]["measured_imbalance"] == pytest.approx(9012 / 90)
    for name, file in (("train", "training"), ("validation", "validation"), ("test", "testing")):
        table = pd.read_csv(test_data / "published-splits" / "ISIC2019LT" / f"{file}.csv")
        part = facts["parts"][name]
        assert part["images"] == len(table) == sum(part["counts"].values())
        assert part["sha256"] == sha256_lines(sorted(table["image"]))
        assert part["counts"] == table.drop(columns="image").sum().astype(int).to_dict()
    assert facts["groups"]["head"] == ["NV", "MEL"]
    assert facts["images_present"] + facts["images_missing"] == 23104
    assert 0 < facts["images_present"] < 2661
    assert facts["partial"] is None


def test_show_takes_factor_seed_and_the_environment(test_data: Path) -> None:
    options = ("--imbalance-factor", "500", "--split-seed", "7", "--json")
    facts = json.loads(lmdbench("show", "isic2019", *options, LMDBENCH_DATA=str(test_data)))
    assert facts["split"]["seed"] == 7
    assert facts["split"]["imbalance_factor"] == 500
    assert [part["images"] for part in facts["parts"].values()] == [13556, 1939, 3874]


def test_show_in_words_and_partial(test_data: Path) -> None:
    text = lmdbench("show", "hyper-kvasir", "--data-root", str(test_data))
    assert "1,894 of 10,662 are there" in text
    assert "recipe     each method's own\n" in text
    assert "229.5" in text
    row = next(line for line in text.splitlines() if line.startswith("ileum"))
    assert row.split() == ["ileum", "tail", "7", "1", "1"]
    options = ("--data-root", str(test_data), "--allow-missing")
    text = lmdbench("show", "hyper-kvasir", *options)
    assert "published-partial" in text
    assert "left out: barretts, " in text
    facts = json.loads(lmdbench("--json", "show", "hyper-kvasir", *options))
    assert len(facts["classes"]) == 9
    assert facts["partial"]["missing"] == facts["images_missing"] == 8768


def test_show_folder(tmp_path: Path) -> None:
    rows = "".join(f"{c}{n}.png,{c}\n" for c in "xyz" for n in range(10))
    (tmp_path / "mine.csv").write_text("image,label\n" + rows)
    (tmp_path / "x0.png").write_bytes(b"")
    facts = json.loads(
        lmdbench("show", "folder", "--data-root", str(tmp_path / "mine.csv"), "--json")
    )
    assert facts["results_name"] == "folder-mine"
    assert facts["parts"]["train"]["counts"] == {"x": 7, "y": 7, "z": 7}
    assert (facts["images_present"], facts["images_missing"]) == (1, 29)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["isic2020"], "unknown data set 'isic2020'. Did you mean isic2019"),
        (["isic2019"], "needs --data-root DIR .or LMDBENCH_DATA.*https://"),
        (["isic2019", "--data-root", "/no/such"], "/no/such does not exist.*https://"),
        (["isic2019", "--data-root", ""], "--data-root is empty"),
        (["isic2019", "--imbalance-factor", "lots"], "--imbalance-factor 'lots' is no number"),
        (["isic2019", "--split-seed", "1.5"], "--split-seed '1.5' is no whole number"),
        (["isic2019", "--plugin", "absent.py"], "plug-in absent.py: no such file"),
    ],
)
def test_mistakes_are_one_line(args: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        lmdbench("show", *args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "option", [("--imbalance-factor", "nan"), ("--imbalance-factor", "3"), ("--split-seed", "-1")]
)
def test_impossible_values(test_data: Path, option: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"possible here: 53\.9 to|from 0 to"):
        lmdbench("show", "isic2019", "--data-root", str(test_data), *option)


def test_resolutions_of_the_images_that_are_there(test_data: Path, tmp_path: Path) -> None:
    rows = "".join(f"{c}{n}.png,{c}\n" for c in "xyz" for n in range(10))
    (tmp_path / "mine.csv").write_text("image,label\n" + rows)
    for n, size in enumerate([(30, 20), (40, 40), (60, 50)]):
        Image.new("RGB", size).save(tmp_path / f"y{n}.png")
    show = ("show", "folder", "--data-root", str(tmp_path / "mine.csv"))
    sizes = json.loads(lmdbench(*show, "--json"))["resolutions"]
    assert sizes == {
        "read": 3,
        "of": 3,
        "unreadable": 0,
        "smallest": [30, 20],
        "median": [40, 40],
        "largest": [60, 50],
        "different": 3,
        "formats": {"PNG": 3},
    }
    assert (
        "sizes      30×20 to 60×50, median 40×40, 3 different; PNG 3 (3 of 3 headers read)"
        in lmdbench(*show)
    )
    text = lmdbench("show", "isic-archive", "--data-root", str(test_data))
    assert "sizes      no image here that can be read, no resolutions" in text
    text = lmdbench("show", "isic2019", "--data-root", str(test_data))
    assert "224×224 to 224×224, median 224×224, 1 different; JPEG 2,000 (2,000 of 2," in text


def test_plot(test_data: Path, tmp_path: Path) -> None:
    picture = tmp_path / "isic.png"
    show = ("show", "isic2019", "--data-root", str(test_data), "--plot", str(picture))
    assert f"written    {picture}" in lmdbench(*show)
    with Image.open(picture) as image:
        assert image.height > image.width > 1000  # bars above eight rows of images
    with pytest.raises(UserError, match="is there already"):
        lmdbench(*show)


def test_plot_makes_the_images_of_a_drawn_data_set(tmp_path: Path) -> None:
    shown = lmdbench("show", "demo", "--plot", str(tmp_path / "demo.svg"), "--json")
    facts = json.loads(shown)
    assert (facts["images_present"], facts["images_missing"]) == (1552, 0)
    assert facts["resolutions"]["largest"] == [48, 48]
    assert facts["plot"] == str(tmp_path / "demo.svg")


@pytest.mark.parametrize(
    "options",
    [
        ("hyper-kvasir",),
        ("hyper-kvasir", "--split", "kfold", "--fold", "1"),
        ("hyper-kvasir", "--allow-missing"),
        ("isic2019", "--split", "lesion", "--imbalance-factor", "200"),
        ("isic2019", "--split", "balanced-test"),
    ],
)
def test_a_saved_split_reads_back_as_the_same(
    test_data: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    listing = tmp_path / "mine.csv"
    show = ("show", options[0], "--data-root", str(test_data), "--json")
    saved = json.loads(lmdbench(*show, *options[1:], "--save-split", str(listing)))
    assert saved["saved_split"] == str(listing)
    assert listing.read_text().startswith("image,label,split\n")
    read = json.loads(lmdbench(*show, "--split", str(listing)))
    assert read["split"]["fingerprint"] == saved["split"]["fingerprint"]
    assert read["classes"] == saved["classes"]
    for name, part in saved["parts"].items():
        assert read["parts"][name]["sha256"] == part["sha256"]


def test_a_saved_split_quotes_what_needs_it(tmp_path: Path) -> None:
    rows = "".join(f'"a ""b"", {c}{n}.png","x, {c}"\n' for c in "xyz" for n in range(10))
    (tmp_path / "mine.csv").write_text("image,label\n" + rows)
    show = ("show", "folder", "--data-root", str(tmp_path / "mine.csv"), "--json")
    saved = json.loads(lmdbench(*show, "--save-split", str(tmp_path / "split.csv")))
    read = json.loads(lmdbench(*show, "--split", str(tmp_path / "split.csv")))
    assert read["split"]["fingerprint"] == saved["split"]["fingerprint"]


@pytest.mark.parametrize(
    ("option", "name", "problem"),
    [
        ("--save-split", "there.csv", "there.csv: is there already; give another name"),
        ("--save-split", "split.txt", "split.txt: the name must end in .csv"),
        ("--save-split", "no/folder/split.csv", "there is no folder"),
        ("--plot", "there.png", "there.png: is there already"),
        ("--plot", "picture.jpg", "picture.jpg: the name must end in .png, .pdf, .svg"),
    ],
)
def test_nothing_is_overwritten(tmp_path: Path, option: str, name: str, problem: str) -> None:
    for there in ("there.csv", "there.png"):
        (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=problem):
        lmdbench("show", "demo", option, str(tmp_path / name))
    assert {path.name for path in tmp_path.iterdir()} == {"there.csv", "there.png"}
    assert (tmp_path / "there.csv").read_text() == (tmp_path / "there.png").read_text() == "mine"


def test_show_works_on_one_fold(test_data: Path) -> None:
    with pytest.raises(UserError, match="say which with --fold N"):
        lmdbench("show", "hyper-kvasir", "--data-root", str(test_data), "--split", "kfold")


PLUGIN = '''
import numpy as np, pandas as pd
from lmdbench.data.dataset import Dataset, Part, Split, register_dataset

@register_dataset("plugged-in-for-a-test")
class Plugged(Dataset):
    """Two images in each part."""
    title, source, licence = "Plugged in", "a test", "MIT"
    needs_root = False

    def records(self):
        ids = [f"{part}{n}" for part in ("train", "validation", "test") for n in (0, 1)]
        return pd.DataFrame({"label": ["x", "y"] * 3, "file": ids, "group": ""}, index=ids)

    def split(self, imbalance_factor, seed):
        part = lambda name: Part(np.array([name + "0", name + "1"]), np.array([0, 1]))
        parts = {name: part(name) for name in ("train", "validation", "test")}
        return Split("given", ("x", "y"), parts, {}, seed=seed)
'''


def test_plugin(tmp_path: Path) -> None:
    plugin = tmp_path / "plugged_in_for_a_test.py"
    plugin.write_text(PLUGIN)
    shown = lmdbench("show", "plugged-in-for-a-test", "--plugin", str(plugin), "--json")
    facts = json.loads(shown)
    assert facts["images_missing"] is None
    assert facts["parts"]["test"]["counts"] == {"x": 1, "y": 1}
    assert "made on first use" in lmdbench("show", "plugged-in-for-a-test")


def test_cache_and_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.setenv("LMDBENCH_CACHE", "")
    assert default_cache() == Path.home() / ".cache" / "lmdbench"
    assert make_dataset("folder", tmp_path).cache == Path.home() / ".cache" / "lmdbench"
