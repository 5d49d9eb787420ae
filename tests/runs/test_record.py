"""``run.json`` as a type: what is written is what was read, and what is damaged is named."""

import copy
import json

import pytest

from lmdbench.core.errors import Damaged, UserError
from lmdbench.runs.record import FORMAT, RunRecord, read_record, seal, spec_id

CONTENT = {
    "format": FORMAT,
    "id": "0" * 64,
    "spec": {
        "method": "crt",
        "method_version": 1,
        "settings": {"epochs": 3, "widths": [1, 2]},
        "selection": "last",
        "ancestor": "1" * 64,
        "dataset": "demo",
        "results_name": "demo",
        "split": {"name": "plain", "seed": 0, "fingerprint": "f" * 64},
        "seed": 2,
        "backbone": "small",
        "weights": "none",
        "image_size": 32,
        "precision": "mixed",
    },
    "results_name": "demo",
    "split_label": "plain",
    "ancestor": {"method": "ce", "id": "1" * 64, "directory": "/x", "usual": True},
    "classes": ["a", "b"],
    "class_counts": {"train": [5, 1], "validation": [1, 1], "test": [1, 1]},
    "groups": {"head": ["a"]},
    "group_rule": "",
    "split_notes": [],
    "partial": None,
    "synthetic": True,
    "changed_settings": {"epochs": 3},
    "digests": {"method": "2" * 64, "store": "3" * 64, "ancestor": None},
    "versions": {"torch": "2.0"},
    "git_commit": None,
    "device": "cpu",
    "threads": 2,
    "validate_every": 1,
    "started": "2025-01-01T00:00:00+00:00",
    "attempts": 1,
}
CONTENT["id"] = spec_id(CONTENT["spec"])
LATER = {"finished": "2025-01-02T00:00:00+00:00", "seconds": 1.5, "epochs": 3}


def written(tmp_path, content):
    (tmp_path / "run.json").write_text(json.dumps(content))
    return tmp_path


def sealed(content):
    return {**content, "digests": {**content["digests"], "record": seal(content)}}


NEWER = {"from_the_future": {"x": [1]}, "spec": {**CONTENT["spec"], "science": 2}}
NEWER["id"] = spec_id(NEWER["spec"])


@pytest.mark.parametrize("more", [{}, LATER, NEWER], ids=["begun", "finished", "newer"])
def test_what_is_written_is_what_was_read(tmp_path, more):
    directory = written(tmp_path, sealed({**CONTENT, **more}))
    before = (directory / "run.json").read_bytes()
    read_record(directory).write(directory)
    assert json.loads((directory / "run.json").read_text()) == json.loads(before)
    assert list(json.loads((directory / "run.json").read_text())) == list(json.loads(before))


def test_what_an_older_version_did_not_record_is_empty():
    old = {key: CONTENT[key] for key in ("id", "spec", "results_name", "split_label")}
    old |= {key: CONTENT[key] for key in ("classes", "class_counts", "groups")} | {"id": "0" * 64}
    record = RunRecord.from_json({**old, "digests": None})
    assert (record.digests, record.versions, record.changed_settings) == ({}, {}, {})
    assert record.code == {}
    assert record.seconds is record.ancestor is record.synthetic is None
    assert not record.was_imported
    assert record.key == "demo/plain/crt/seed2-00000000"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("spec",), 7, "damaged, its spec cannot be what a run has"),
        (("spec", "split"), [1], "damaged, its split cannot be"),
        (("spec", "seed"), "0", "its seed is '0', no number"),
        (("spec", "settings"), None, "damaged, its settings cannot be"),
        (("classes",), "ab", "damaged, its classes cannot be"),
        (("classes",), ["a", 1], "damaged, its classes cannot be"),
        (("class_counts", "train"), [1, "2"], "damaged, its class_counts cannot be"),
        (("groups",), None, "lacks 'groups'"),
        (("ancestor",), "ce", "damaged, its ancestor cannot be"),
        (("ancestor", "id"), 5, "damaged, its id cannot be"),
        (("imported",), {"archive": "x"}, "damaged, its archive cannot be"),
        (("seconds",), float("nan"), "its seconds is nan, no number from 0 on"),
        (("synthetic",), "yes", "damaged, its synthetic cannot be"),
    ],
)
def test_a_damaged_record_is_told_in_one_line(tmp_path, place, value, said):
    content = copy.deepcopy(CONTENT)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(UserError) as told:
        read_record(written(tmp_path, content))
    assert f"run.json: {said}" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("key", ["id", "spec", "classes", "class_counts", "results_name"])
def test_what_no_record_can_lack(tmp_path, key):
    content = {k: v for k, v in CONTENT.items() if k != key}
    with pytest.raises(UserError, match=f"lacks '{key}'; move {tmp_path.name} away"):
        read_record(written(tmp_path, content))
    spec = {k: v for k, v in CONTENT["spec"].items() if k != "seed"}
    with pytest.raises(UserError, match="spec lacks 'seed'"):
        read_record(written(tmp_path, {**CONTENT, "spec": spec}))


def edit(content, place, value):
    changed = copy.deepcopy(content)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "seed"), 3),
        (("spec", "settings", "lr"), 0.5),
        (("spec", "settings", "epochs"), 3.0),
        (("spec", "split", "fingerprint"), "e" * 64),
        (("spec", "science"), 2),
        (("id",), "0" * 64),
    ],
)
@pytest.mark.parametrize("of", [lambda content: content, sealed], ids=["older", "sealed"])
def test_a_specification_that_does_not_come_to_its_id_is_damaged(tmp_path, of, place, value):
    with pytest.raises(Damaged, match=r"run\.json: damaged, its id is .*, but its spec comes to"):
        read_record(written(tmp_path, edit(of(CONTENT), place, value)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("classes",), ["b", "a"]),
        (("class_counts", "train"), [50, 1]),
        (("groups",), {"tail": ["a"]}),
        (("changed_settings",), {}),
        (("digests", "store"), "4" * 64),
        (("digests", "predictions"), "4" * 64),
        (("digests", "record"), "4" * 64),
        (("ancestor", "usual"), False),
        (("seconds",), 1.0),
        (("from_the_future",), 1),
    ],
)
def test_a_record_that_was_edited_is_damaged(tmp_path, place, value):
    whole = sealed({**CONTENT, **LATER})
    assert read_record(written(tmp_path, whole)).seconds == 1.5
    with pytest.raises(Damaged, match=r"run\.json: damaged, it was changed since it was written"):
        read_record(written(tmp_path, edit(whole, place, value)))
    unsealed = edit({**CONTENT, **LATER}, place, value)
    unsealed["digests"].pop("record", None)
    read_record(written(tmp_path, unsealed))  # as older versions wrote it


def test_a_record_is_sealed_as_json_has_it(tmp_path):
    """Keys that are numbers sort in another order than the texts that JSON makes of them."""
    record = RunRecord.from_json({**CONTENT, "versions": {2: "b", 10: "a"}})
    record.write(tmp_path)
    assert read_record(tmp_path).versions == {"2": "b", "10": "a"}


@pytest.mark.parametrize("name", ["seed1-{id}", "seed2-00000000", "seed1-{id}.old-1"])
def test_a_directory_that_is_named_after_another_run_is_damaged(tmp_path, name):
    directory = tmp_path / name.format(id=CONTENT["id"][:8])
    directory.mkdir()
    with pytest.raises(Damaged, match=f"damaged, it is of seed2-{CONTENT['id'][:8]}; move"):
        read_record(written(directory, CONTENT))


@pytest.mark.parametrize("name", ["seed2-{id}", "seed2-{id}.old-1", "mine", "seed1-best"])
def test_a_directory_may_have_a_name_of_its_own(tmp_path, name):
    directory = tmp_path / name.format(id=CONTENT["id"][:8])
    directory.mkdir()
    assert read_record(written(directory, CONTENT)).id == CONTENT["id"]
