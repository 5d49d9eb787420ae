import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from lmdbench.cli.datasets import datasets
from lmdbench.cli.options import default_cache, make_dataset
from lmdbench.data.dataset import sha256_lines
from lmdbench.errors import UserError


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


PLUGIN = '''
import numpy as np, pandas as pd
from lmdbench.data.dataset import Dataset, Part, Split, register_dataset

@register_dataset("plugged-in-for-a-test")
class Plugged(Dataset):
    """Two images in each part."""
    needs_root = False

    def records(self):
        raise AssertionError("not needed")

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
