"""Images that cannot be read are left out of a split if that may be, named and remembered."""

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset, Part, Prepared, Split
from lmdbench.data.splits.availability import prepare_files
from lmdbench.data.store import damage
from lmdbench.data.store.store import open_images
from lmdbench.runs.damaged import skip_damaged

SIZE = 16


def encoded(kind: str, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


class Mine(Dataset):
    name = "mine"

    def records(self) -> pd.DataFrame:
        images = [path.name for path in sorted(self.image_root.iterdir())]
        labels = ["b" if name.startswith("b-") else "a" for name in images]
        return pd.DataFrame({"label": labels, "file": images, "group": ""}, index=images)

    def split(self, imbalance_factor: float | None, seed: int) -> Split:  # noqa: ARG002
        records = self.records()
        test = records.index.str.contains("test")
        labels = (records["label"] == "b").to_numpy(dtype=np.int64)
        ids = records.index.to_numpy(dtype=str)
        none = Part(ids[:0], labels[:0])
        parts = {"train": Part(ids[~test], labels[~test]), "test": Part(ids[test], labels[test])}
        return Split("given", ("a", "b"), {**parts, "validation": none}, {"head": ("a", "b")})


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    root = tmp_path / "mine"
    root.mkdir()
    for name in ("a-0", "a-1", "a-test", "b-0", "b-1", "b-test"):
        path = root / f"{name}.png"
        path.write_bytes(encoded("PNG", len(list(root.iterdir()))))
        os.utime(path, (1e9, 1e9))
    return Mine(root, tmp_path)


def spoil(mine: Mine, **contents: bytes) -> None:
    for name, content in contents.items():
        path = mine.image_root / name.replace("_", "-").replace("DOT", ".")
        path.write_bytes(content)
        os.utime(path, (1e9, 1e9))


def prepared(mine: Mine) -> Prepared:
    return prepare_files(mine, mine.split(None, 0), allow_missing=False)


def test_without_damage_nothing_changes(mine: Mine, tmp_path: Path) -> None:
    whole = prepared(mine)
    assert skip_damaged(whole, SIZE, tmp_path / "cache") is whole


def test_damaged_images_are_left_out_and_named(mine: Mine, tmp_path: Path) -> None:
    spoil(mine, a_1DOTpng=b"", b_0DOTpng=b"<html>")
    whole, said = prepared(mine), list[str]()
    left = skip_damaged(whole, SIZE, tmp_path / "cache", say=said.append)
    partial = left.split.partial
    assert partial is not None
    assert partial.damaged == ("a-1.png", "b-0.png")
    assert str(partial) == "partial: 4 of 6 images, 2 damaged images left out"
    assert partial.record["damaged"] == ("a-1.png", "b-0.png")
    assert left.split.label == "given-partial"
    assert left.split.fingerprint != whole.split.fingerprint
    assert left.files.keys() == whole.files.keys() - set(partial.damaged)
    root = mine.image_root
    assert said == [
        f"left out: 2 damaged images, {root}/a-1.png (empty file), {root}/b-0.png (not an image)"
    ]
    # What is left has its store by now
    assert not open_images("mine", left.files, SIZE, tmp_path / "cache").made


def test_damage_is_remembered_by_content(
    mine: Mine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    spoil(mine, a_1DOTpng=b"<html>")
    first = skip_damaged(prepared(mine), SIZE, cache)
    monkeypatch.setattr(damage, "_stays", lambda *_: pytest.fail("was tried again"))
    again = skip_damaged(prepared(mine), SIZE, cache)
    assert again.split.fingerprint == first.split.fingerprint
    monkeypatch.undo()
    spoil(mine, a_1DOTpng=encoded("PNG", 9))
    assert skip_damaged(prepared(mine), SIZE, cache).split.partial is None
    spoil(mine, a_1DOTpng=b"<html>")
    for text in ("not, a, table\n", "\0", ""):
        (cache / "stores" / "mine.damaged.csv").write_text(text)
        assert skip_damaged(prepared(mine), SIZE, cache).split.fingerprint == (
            first.split.fingerprint
        )


def test_missing_and_damaged_images_are_counted_together(mine: Mine, tmp_path: Path) -> None:
    split = mine.split(None, 0)
    spoil(mine, b_0DOTpng=b"")
    records = mine.records()
    mine.records = lambda: records  # type: ignore[method-assign]
    (mine.image_root / "a-0.png").unlink()
    some = prepare_files(mine, split, allow_missing=True)
    partial = skip_damaged(some, SIZE, tmp_path / "cache").split.partial
    assert partial is not None
    assert (partial.missing, partial.total, partial.damaged) == (2, 6, ("b-0.png",))


def test_too_little_that_is_whole_is_refused(mine: Mine, tmp_path: Path) -> None:
    spoil(mine, b_testDOTpng=b"")
    with pytest.raises(UserError, match=r"1 of 6 images are damaged; without them, only 1 of the"):
        skip_damaged(prepared(mine), SIZE, tmp_path / "cache")
    spoil(mine, **{f"{path.stem}DOTpng": b"" for path in mine.image_root.iterdir()})
    with pytest.raises(UserError, match=r"6 of 6 images are damaged; without them, only 0"):
        skip_damaged(prepared(mine), SIZE, tmp_path / "cache")
