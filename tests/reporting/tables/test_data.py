"""CSV and JSON: everything, in full precision."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

from lmdbench.comparison.compare import Comparison, compare
from lmdbench.comparison.results import read_results
from lmdbench.reporting.tables import csv_text, json_text

FakeRun = Callable[..., Path]


def csv_records(comparison: Comparison, kind: str = "score") -> list[dict[str, str]]:
    records = csv.DictReader(io.StringIO(csv_text(comparison)))
    return [record for record in records if record["kind"] == kind]


def test_csv_holds_a_line_a_metric_in_full_precision(two: Comparison) -> None:
    records = csv_records(two)
    assert len(records) == (3 + 1) * 7
    for block in two.tables:
        for row in block.rows:
            for name, cell in row.cells.items():
                (record,) = [
                    r
                    for r in records
                    if (r["backbone"], r["label"], r["metric"])
                    == (block.setting["backbone"], row.label, name)
                ]
                assert float(record["mean"]) == cell.mean
                assert record["sd"] == ("" if cell.sd is None else repr(cell.sd))
                assert int(record["n_images"]) == cell.n
                assert int(record["n_seeds"]) == len(row.seeds)
                assert (record["best"], record["second"]) == (str(cell.best), str(cell.second))
                assert (record["partial"], record["synthetic"]) == ("True", "True")
                assert record["split_fingerprint"] == "f" * 64


def test_csv_holds_intervals_and_differences(two: Comparison) -> None:
    (block, _) = two.tables
    (ce,) = [row for row in block.rows if row.label == "ce"]
    cell = ce.cells["balanced_accuracy"]
    assert cell.estimate is not None
    assert cell.difference is not None
    records = [r for r in csv_records(two) if (r["label"], r["backbone"]) == ("ce", "resnet18")]
    (record,) = [r for r in records if r["metric"] == "balanced_accuracy"]
    for name in ("low", "high", "se", "df"):
        assert float(record[name]) == getattr(cell.estimate, name)
        assert float(record[f"difference_{name}"]) == getattr(cell.difference, name)
    assert float(record["difference"]) == cell.difference.value
    assert (float(record["p"]), float(record["p_corrected"])) == (
        cell.difference.p,
        cell.p_corrected,
    )
    assert (record["reference"], record["mark"]) == ("lmd (rounds=20)", cell.mark)
    others = [r for r in records if r["metric"] != "balanced_accuracy"]
    assert {r["p_corrected"] for r in others} == {""}
    (f1,) = [r for r in records if r["metric"] == "macro_f1"]  # df has two test images
    assert (f1["low"], f1["high"]) == ("", "")
    assert f1["no_interval"] == "df has 2 test images; fewer than 5"


def test_json_holds_everything(two: Comparison) -> None:
    content = json.loads(json_text(two))
    assert content["unfinished"] == 1
    (first, second) = content["blocks"]
    assert (first["backbone"], second["backbone"]) == ("resnet18", "resnet50")
    assert first["partial"]["dropped_classes"] == ["vasc_x"]
    assert first["synthetic"] is True
    assert first["images"]["test"] == {"all": 50, "head": 30, "medium": 18, "tail": 2}
    assert (first["reference"], first["primary"]) == ("lmd (rounds=20)", "balanced_accuracy")
    (lmd,) = [row for row in first["rows"] if row["label"] == "lmd (rounds=20)"]
    assert lmd["seeds"] == [0, 1, 2]
    assert lmd["chain"][0]["settings"]["rounds"] == 20
    (row,) = [row for row in two.tables[0].rows if row.label == "lmd (rounds=20)"]
    cell = row.cells["tail"]
    assert cell.estimate is not None
    assert lmd["scores"]["tail"]["mean"] == cell.mean
    assert lmd["scores"]["tail"]["by_seed"] == list(cell.values)
    assert lmd["scores"]["tail"]["interval"]["low"] == cell.estimate.low
    assert lmd["scores"]["tail"]["best"] is True
    assert lmd["recalls"]["df"]["mean"] == cell.mean  # the only class of the tail
    assert all(Path(run["directory"], "run.json").exists() for run in lmd["runs"])
    (ce,) = [row for row in first["rows"] if row["label"] == "ce"]
    assert ce["scores"]["balanced_accuracy"]["difference"]["value"] < 0
    assert ce["scores"]["balanced_accuracy"]["p_corrected"] is not None


def test_missing_values_are_empty_with_their_reason(tmp_path: Path, fake_run: FakeRun) -> None:
    fake_run("ce", test=([0, 1], [[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    comparison = compare(read_results(tmp_path / "results"))
    (record,) = [r for r in csv_records(comparison) if r["metric"] == "tail"]
    assert (record["mean"], record["sd"], record["n_images"]) == ("", "", "0")
    assert record["reason"] == "no class of the group has images"
    (block,) = json.loads(json_text(comparison))["blocks"]
    assert block["rows"][0]["scores"]["tail"]["mean"] is None


def test_more_is_there_when_asked_for(awkward: Comparison, two: Comparison) -> None:
    classes = {record["metric"] for record in csv_records(awkward, "class")}
    assert "recall:mel & co" in classes
    assert len(csv_records(awkward, "pair")) == 6
    assert csv_records(awkward, "pair")[0]["difference"] == "0.1"
    printed = {record["label"]: record["mean"] for record in csv_records(awkward, "published")}
    assert printed["CE_1 (A paper & more)"] == "0.5"
    (rank,) = csv_records(awkward, "rank")
    assert (rank["mean"], rank["low"], rank["metric"]) == ("1.5", "1.0", "balanced_accuracy")
    for kind in ("class", "pair", "published", "rank"):
        assert csv_records(two, kind) == []


def test_awkward_names_come_through(awkward: Comparison) -> None:
    assert "[odd] 100%_| (a_b=x#y)" in {record["label"] for record in csv_records(awkward)}
    (block, *_) = json.loads(json_text(awkward))["blocks"]
    assert block["classes"][1] == "mel & co"
    assert block["pairwise"][0]["difference"]["superiority"] == 0.25
    assert block["published"][0]["values"] == {"CE_1": 0.5, "RS": 0.25}
    assert json.loads(json_text(awkward))["ranks"]["rows"][0]["wins"] == 1


PAGE = Path(__file__).resolve().parents[3] / "docs" / "results.md"


def documented() -> set[str]:
    """Names in the page's sections on columns."""
    section = PAGE.read_text(encoding="utf-8").split("## Columns of")[1]
    return set(re.findall(r"`([a-z_]+)`", section))


def test_every_column_is_documented(two: Comparison, awkward: Comparison) -> None:
    for comparison in (two, awkward):
        (header, *_) = csv.reader(io.StringIO(csv_text(comparison)))
        assert set(header) <= documented()


def test_every_key_of_json_is_documented(two: Comparison, awkward: Comparison) -> None:
    free = ("settings", "class_counts", "images", "groups", "scores", "recalls", "by_class")

    def keys(value: object, parent: str = "") -> set[str]:
        if isinstance(value, list):
            return set().union(*(keys(item, parent) for item in value))
        if not isinstance(value, dict):
            return set()
        found = set().union(*(keys(item, name) for name, item in value.items()))
        if parent in ("partial", "published") or (parent in free and parent not in CELLS):
            return set()
        return found | (set() if parent in CELLS else set(value))

    for comparison in (two, awkward):
        assert keys(json.loads(json_text(comparison))) <= documented()


CELLS = ("scores", "recalls", "by_class")  # whose keys are names of metrics and classes
