"""Archives that are fine, damaged, or made by someone who means harm."""

import os
import stat
import zipfile
import zlib

import pytest

from lmdbench.core.errors import UserError
from lmdbench.core.files import temporary_path
from lmdbench.core.progress import Progress
from lmdbench.data.sources import Archive, Home
from lmdbench.download import archives
from lmdbench.download.archives import Damaged, images_there, needed_members, unpack

CONTENT = {f"top/sub/{name}.jpg": bytes([n]) * 5000 for n, name in enumerate("abcd")}
TABLE = {"top/labels.csv": b"image\na\n"}
ARCHIVE = Archive(
    "https://h/a.zip", top="top", images=4, about=1, unpacked=30_000, tables=("top/labels.csv",)
)


def write(path, members, **kwargs):
    """``members``: name or ZipInfo → content."""
    with zipfile.ZipFile(path, "w", **kwargs) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.zip"


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_only_what_is_needed_is_unpacked(path, home, tree):
    others = {
        "top/": b"",
        "top/LICENSE.txt": b"l",
        "top/sub/._a.jpg": b"x",
        "__MACOSX/top/a.jpg": b"x",
        "other/a.jpg": b"x",
        "top.jpg": b"x",
    }
    write(path, {**others, **CONTENT, **TABLE}, compression=zipfile.ZIP_DEFLATED)
    unpack(path, ARCHIVE, home, Progress())
    assert tree(home.folder) == {**CONTENT, **TABLE}
    assert images_there(ARCHIVE, home) == 4


def test_endings_may_be_in_capitals_and_the_top_folder_left_out(path, tmp_path, tree):
    content = {name.replace(".jpg", ".JPG"): value for name, value in CONTENT.items()}
    write(path, {**content, **TABLE})
    home = Home(tmp_path / "images", dropped="top")
    unpack(path, ARCHIVE, home, Progress())
    assert set(tree(home.folder)) == {"labels.csv", *(f"sub/{name}.JPG" for name in "abcd")}
    assert images_there(ARCHIVE, home) == 4


def linked(name, kind=stat.S_IFLNK):
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        ("../evil.jpg", "leads out of the folder"),
        ("top/../../evil.jpg", "leads out of the folder"),
        ("/etc/evil.jpg", "has a path that is not relative"),
        ("C:evil.jpg", "has a path that is not relative"),
        ("C:/evil.jpg", "has a path that is not relative"),
        ("..\\evil.jpg", "has a path that is not relative"),
        (linked("top/link.jpg"), "is a link or a device"),
        (linked("elsewhere"), "is a link or a device"),
        (linked("top/fifo.jpg", stat.S_IFIFO), "is a link or a device"),
        ("TOP/sub/A.jpg", "is there twice"),
    ],
)
def test_one_bad_member_refuses_the_whole_archive(path, home, member, problem):
    write(path, {**CONTENT, **TABLE, member: b"/etc/passwd"})
    with pytest.raises(UserError, match=problem) as caught:
        unpack(path, ARCHIVE, home, Progress())
    name = member if isinstance(member, str) else member.filename
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not home.folder.exists()


def flagged(path, offset_in_entry, value):
    """Overwrite two bytes of the last central entry, as an encrypting archiver would."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + offset_in_entry : entry + offset_in_entry + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)


def test_encrypted_and_strangely_compressed_members_are_refused(path, home):
    flagged(write(path, {**TABLE, **CONTENT}), 8, 0x1)
    with pytest.raises(UserError, match=r"'top/sub/d\.jpg' is encrypted"):
        unpack(path, ARCHIVE, home, Progress())
    flagged(write(path, {**TABLE, **CONTENT}), 10, 99)
    with pytest.raises(UserError, match=r"compressed by a method \(99\)"):
        unpack(path, ARCHIVE, home, Progress())
    assert not home.folder.exists()


def test_what_unpacks_to_far_more_than_declared_is_refused(path, home):
    bomb = {**CONTENT, **TABLE, "top/sub/a.jpg": bytes(200_000)}
    write(path, bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 3000
    with pytest.raises(UserError, match=r"would unpack to 215 kB where about 30 kB .*sub/a\.jpg"):
        unpack(path, ARCHIVE, home, Progress())
    assert not home.folder.exists()


def test_a_member_that_lies_about_its_size_is_damage(path, home):
    """The bomb that declares little: never more than declared is written."""
    write(path, {**TABLE, **CONTENT}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (17).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"d\.jpg"):
        unpack(path, ARCHIVE, home, Progress())
    assert not (home.folder / "top/sub/d.jpg").exists()


@pytest.mark.parametrize(
    "members", [{**CONTENT, **TABLE, "top/e.jpg": b"x"}, dict(list(CONTENT.items())[1:]), CONTENT]
)
def test_another_number_of_images_or_a_table_that_lacks_is_refused(path, home, members):
    write(path, members)
    with pytest.raises(UserError, match=r"holds \d images and . tables .* where 4 and 1 are expec"):
        unpack(path, ARCHIVE, home, Progress())
    assert not home.folder.exists()


def test_a_truncated_archive_is_damage_wherever_it_ends(path):
    whole = write(path, {**CONTENT, **TABLE}).read_bytes()
    assert len(needed_members(path, ARCHIVE)) == 5
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            needed_members(path, ARCHIVE)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_wrong_bytes_inside_are_noticed_by_the_crc_and_not_kept(path, home, tree, compression):
    write(path, {**TABLE, **CONTENT}, compression=compression)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("top/sub/c.jpg").header_offset + 30 + len("top/sub/c.jpg")
    content[start + 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"a\.zip: "):
        unpack(path, ARCHIVE, home, Progress())
    assert set(tree(home.folder)) == {*TABLE, "top/sub/a.jpg", "top/sub/b.jpg"}


def test_files_that_are_there_are_kept_and_others_made_right(path, home, tree):
    write(path, {**TABLE, **CONTENT})
    folder = home.folder / "top" / "sub"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(CONTENT["top/sub/a.jpg"])
    os.utime(folder / "a.jpg", (1, 1))
    (folder / "b.jpg").write_bytes(b"\xff" * 5000)  # the right size, other content
    (folder / "c.jpg").write_bytes(b"half")
    leftover = temporary_path(folder / "d.jpg")
    leftover = leftover.with_name(leftover.name.replace(f"~{os.getpid()}~", "~1~"))
    leftover.write_bytes(b"of a killed process")
    unpack(path, ARCHIVE, home, Progress())
    assert tree(home.folder) == {**CONTENT, **TABLE}
    assert (folder / "a.jpg").stat().st_mtime == 1


def test_images_are_counted_without_empty_and_temporary_files(path, home):
    write(path, {**TABLE, **CONTENT})
    unpack(path, ARCHIVE, home, Progress())
    folder = home.folder / "top" / "sub"
    (folder / "a.jpg").write_bytes(b"")
    temporary_path(folder / "e.jpg").write_bytes(b"x")
    assert images_there(ARCHIVE, home) == 3


def test_crc_of_a_file_is_that_of_zlib(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "CHUNK", 7)
    (tmp_path / "f").write_bytes(b"some bytes, more than a chunk")
    assert archives._crc(tmp_path / "f") == zlib.crc32(b"some bytes, more than a chunk")
