"""``lmdbench data download`` of an archive, from an empty folder to a finished one and in between.

Killed, interrupted, with files put there by hand, and with servers that send something else.
"""

import os
import pty
import re
import shutil
import signal
import subprocess
import time
import zipfile

import pytest
import requests

from lmdbench.download import disk_space, web

FOLDER = "drawn"
# Kills the process before its n-th rename: at every moment at which files on disk change state.
KILLED_AT_RENAME = """
import os, signal
left = {n}
def killing(rename):
    def replacement(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*args, **kwargs)
    return replacement
os.replace, os.rename = killing(os.replace), killing(os.rename)
"""


def only_line(outcome, code=2):
    assert outcome.code == code, outcome.err
    *_, last = outcome.err.strip().splitlines()
    assert last.startswith("lmdbench: ")
    return last


@pytest.fixture
def undisturbed(download, tmp_path, tree):
    root = tmp_path / "undisturbed"
    assert download.run("drawn-zip", root).code == 0
    return tree(root)


def test_everything_lands_where_it_belongs(download, official, tmp_path, tree):
    outcome = download.run("drawn-zip", tmp_path / "new")
    assert outcome.code == 0, outcome.err
    files = tree(tmp_path / "new" / FOLDER)
    stamp = files.pop(".download/complete.json")
    assert b"https://data.example.org/2019/drawn.zip" in stamp
    assert files == {
        "drawn.zip": official.files[official.zip],
        "truth.csv": official.files[official.table],
        "released-split/training.csv": official.files[official.split],
        "pictures/labels.csv": b"image,label\n",
        **official.archived,
    }
    assert f"drawn-zip is complete: 12 images in {tmp_path / 'new' / FOLDER}" in outcome.out
    assert "--remove-archives deletes it" in outcome.out


def test_before_it_starts_it_says_what_comes_under_which_terms(download, official, tmp_path):
    lines = download.run("drawn-zip", tmp_path).err.splitlines()
    start = lines[: lines.index("truth.csv: 0 bytes of 162 bytes")]
    assert "licence  CC0" in start
    assert "cite     Nobody: Noise. Journal of Static 1, 1 (2001)" in start
    at = start.index("from     https://data.example.org/2019/drawn.zip")
    assert start[at + 1] == f"to       {tmp_path / FOLDER / 'drawn.zip'}"
    assert f"mirror   {official.url} stands for https: in these addresses" in start


def test_quiet_says_nothing(download, tmp_path):
    outcome = download.run("drawn-zip", tmp_path, "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_on_a_terminal_there_are_bars_with_the_time_left(download, official, tmp_path):
    terminal, end = pty.openpty()
    process = download.start("drawn-zip", tmp_path, stderr=end)
    os.close(end)
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    assert process.wait() == 0
    os.close(terminal)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"drawn\.zip .*139\.1/139\.1 kB .*left", text), text
    assert re.search(r"unpacking drawn\.zip .*13/13 .*left", text), text


def test_again_it_answers_without_network(download, official, tmp_path, tree, monkeypatch):
    download.run("drawn-zip", tmp_path)
    before = tree(tmp_path)
    official.close()
    monkeypatch.setattr(requests.Session, "send", lambda *_, **__: pytest.fail("it asks"))
    outcome = download.run("drawn-zip", tmp_path)
    assert outcome.code == 0
    assert "drawn-zip is there already: 12 images" in outcome.out
    assert outcome.err == ""
    assert tree(tmp_path) == before


def test_what_was_deleted_since_is_made_good(download, official, tmp_path, tree):
    download.run("drawn-zip", tmp_path)
    before = tree(tmp_path)
    (tmp_path / FOLDER / "pictures" / "DRAW_0000003.jpg").unlink()
    (tmp_path / FOLDER / "truth.csv").unlink()
    official.requests.clear()
    assert download.run("drawn-zip", tmp_path).code == 0
    assert tree(tmp_path) == before
    assert [path for path, _ in official.requests] == [official.table]


def test_archives_are_removed_when_asked_for(download, official, tmp_path):
    archive = tmp_path / FOLDER / "drawn.zip"
    assert download.run("drawn-zip", tmp_path).code == 0
    assert archive.exists()
    outcome = download.run("drawn-zip", tmp_path, "--remove-archives")
    assert f"deleted: {archive}" in outcome.out
    assert not archive.exists()
    official.requests.clear()
    outcome = download.run("drawn-zip", tmp_path)
    assert "there already" in outcome.out
    assert official.requests == []


def test_the_data_root_itself_where_it_holds_the_table(download, official, tmp_path):
    (tmp_path / "truth.csv").write_bytes(official.files[official.table])
    assert download.run("drawn-zip", tmp_path).code == 0
    assert (tmp_path / "pictures" / "DRAW_0000000.jpg").exists()
    assert not (tmp_path / FOLDER).exists()
    assert official.count(official.table) == 0


# Killed and interrupted


@pytest.mark.parametrize("n", [1, 4, 5, 7, 8, 20, 22])
def test_killed_at_a_rename_and_started_again(download, undisturbed, tmp_path, tree, n):
    root = tmp_path / "killed"
    killed = download.start("drawn-zip", root, code=KILLED_AT_RENAME.format(n=n))
    assert killed.wait() == -signal.SIGKILL
    outcome = download.run("drawn-zip", root)
    assert outcome.code == 0, outcome.err
    assert tree(root) == undisturbed


def test_killed_in_the_middle_of_the_archive_it_resumes(
    download, official, undisturbed, tmp_path, tree
):
    process: subprocess.Popen | None = None

    def kill():
        time.sleep(0.2)  # for what was sent to arrive
        process.kill()

    official.requests.clear()
    official.fault(official.zip, cut=100_000, act=kill)
    process = download.start("drawn-zip", tmp_path / "killed")
    assert process.wait() == -signal.SIGKILL
    assert download.run("drawn-zip", tmp_path / "killed").code == 0
    assert tree(tmp_path / "killed") == undisturbed
    assert official.ranges(official.zip)[1].startswith("bytes=")
    assert official.ranges(official.zip)[1] != "bytes=0-"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_it_says_how_to_go_on(download, official, undisturbed, tmp_path, tree, how):
    process: subprocess.Popen | None = None

    def interrupt():
        process.send_signal(how)
        time.sleep(0.5)

    official.fault(official.zip, cut=100_000, act=interrupt)
    process = download.start("drawn-zip", tmp_path / "killed")
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        "lmdbench: stopped; what was fetched stays: the same command goes on from there"
    )
    assert download.run("drawn-zip", tmp_path / "killed").code == 0
    assert tree(tmp_path / "killed") == undisturbed


def test_a_second_download_at_once_says_so(download, official, tmp_path):
    outcomes = []

    def start_another():
        outcomes.append(download.start("drawn-zip", tmp_path).communicate())

    official.fault(official.zip, cut=100_000, act=start_another)
    assert download.run("drawn-zip", tmp_path).code == 0
    ((_, err),) = outcomes
    assert "drawn-zip is being downloaded" in err.splitlines()[-1]
    assert "by another process" in err.splitlines()[-1]


# Files put there by hand


def test_half_an_archive_put_there_is_recognised_and_gone_on_with(
    download, official, undisturbed, tmp_path, tree
):
    root = tmp_path / "hand"
    (root / FOLDER).mkdir(parents=True)
    half = official.files[official.zip][:90_000]
    (root / FOLDER / "drawn.zip").write_bytes(half)
    official.requests.clear()
    outcome = download.run("drawn-zip", root)
    assert "drawn.zip is no whole zip file: going on" in outcome.err
    assert official.ranges(official.zip) == ["bytes=90000-"]
    assert tree(root) == undisturbed


def test_half_of_something_else_is_noticed_and_fetched_whole(
    download, official, undisturbed, tmp_path, tree
):
    root = tmp_path / "hand"
    (root / FOLDER).mkdir(parents=True)
    (root / FOLDER / "drawn.zip").write_bytes(b"PK" + bytes(89_998))
    official.requests.clear()
    outcome = download.run("drawn-zip", root)
    assert outcome.code == 0
    assert "drawn.zip is damaged" in outcome.err
    assert official.ranges(official.zip) == ["bytes=90000-", None]
    assert tree(root) == undisturbed


def test_everything_brought_by_hand_needs_no_network(
    download, official, undisturbed, tmp_path, tree
):
    root = tmp_path / "hand"
    for name in ("drawn.zip", "truth.csv", "released-split/training.csv"):
        path = root / FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(undisturbed[f"{FOLDER}/{name}"])
    official.close()
    assert download.run("drawn-zip", root).code == 0
    assert tree(root) == undisturbed


def test_unpacked_images_brought_by_hand_are_taken_as_they_are(
    download, official, undisturbed, tmp_path
):
    root = tmp_path / "hand"
    shutil.copytree(tmp_path / "undisturbed", root)
    shutil.rmtree(root / FOLDER / ".download")
    (root / FOLDER / "drawn.zip").unlink()
    official.close()
    outcome = download.run("drawn-zip", root)
    assert outcome.code == 0
    assert "12 images are in" in outcome.err
    assert "taken as they are" in outcome.err
    assert not (root / FOLDER / "drawn.zip").exists()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("truth.csv", "12 rows expected, 1 found; move it away"),
        ("released-split/training.csv", "SHA-256 .* expected, .* found; move it away"),
    ],
)
def test_a_table_that_is_another_is_not_overwritten(download, tmp_path, name, problem):
    path = tmp_path / FOLDER / name
    path.parent.mkdir(parents=True)
    path.write_text("image\nmine\n")
    line = only_line(download.run("drawn-zip", tmp_path))
    assert str(path) in line
    assert re.search(problem, line), line
    assert path.read_text() == "image\nmine\n"


# What servers send instead


def test_wrong_bytes_are_fetched_once_more(download, official, undisturbed, tmp_path, tree):
    official.fault(official.split, status=200, body=b"image\nother\n")
    outcome = download.run("drawn-zip", tmp_path / "new")
    assert outcome.code == 0
    assert "released-split-training.csv: SHA-256 " in outcome.err
    assert tree(tmp_path / "new") == undisturbed


@pytest.mark.parametrize(
    ("table", "problem"),
    [("split", r"SHA-256 \w{64} expected, \w{64} found; twice"), ("table", "12 rows expected, 1")],
)
def test_wrong_bytes_twice_are_an_error_and_not_kept(download, official, tmp_path, table, problem):
    path = getattr(official, table)
    official.requests.clear()
    official.fault_always(path, status=200, body=b"image\nother\n")
    line = only_line(download.run("drawn-zip", tmp_path))
    assert re.search(problem, line), line
    assert official.url + path in line
    assert official.count(path) == 2
    assert not [p for p in tmp_path.rglob("*.csv*") if p.read_bytes() == b"image\nother\n"]


def test_a_table_cut_short_without_a_length_is_noticed(download, official, undisturbed, tmp_path):
    official.fault(official.table, without_length=True, cut=100)
    outcome = download.run("drawn-zip", tmp_path / "new")
    assert outcome.code == 0
    assert "truth.csv: 12 rows expected, 8 found; fetching it once more" in outcome.err


def test_a_damaged_archive_is_fetched_once_more(download, official, undisturbed, tmp_path, tree):
    content = bytearray(official.files[official.zip])
    content[len(content) // 2] ^= 0xFF
    official.fault(official.zip, status=200, body=bytes(content))
    official.fault(official.zip, without_length=True, cut=50_000)
    outcome = download.run("drawn-zip", tmp_path / "new")
    assert "drawn.zip is damaged (drawn.zip: Bad CRC-32" in outcome.err
    line = only_line(outcome)
    assert "damaged each time" in line
    assert not (tmp_path / "new" / FOLDER / "drawn.zip").exists()
    assert download.run("drawn-zip", tmp_path / "new").code == 0
    assert tree(tmp_path / "new") == undisturbed


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"../evil.jpg": b"x"}, r"its member '../evil.jpg' leads out of the folder"),
        ({"pictures/DRAW_0000012.jpg": b"x"}, "holds 13 images and 1 tables"),
        ({"pictures/labels.csv": None}, "holds 12 images and 0 tables"),
        ({"pictures/DRAW_0000001.jpg": bytes(9_000_000)}, "would unpack to 9.1"),
    ],
)
def test_an_archive_that_is_another_is_refused(download, official, tmp_path, changes, problem):
    official.files[official.zip] = official.zip_with(changes, compression=zipfile.ZIP_DEFLATED)
    line = only_line(download.run("drawn-zip", tmp_path / "new"))
    assert problem in line
    assert not (tmp_path / "new" / FOLDER / "pictures").exists()
    assert not list(tmp_path.rglob("evil*"))
    assert official.count(official.zip) == 1


@pytest.mark.parametrize("which", ["zip", "table"])
def test_a_login_page_is_one_line(download, official, tmp_path, which):
    path = getattr(official, which)
    official.fault_always(
        path, status=200, body=official.page, headers={"Content-Type": "text/html"}
    )
    line = only_line(download.run("drawn-zip", tmp_path))
    assert "something else came instead of" in line
    assert "'<!DOCTYPE html>" in line
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"DOCTYPE" in p.read_bytes()]


def test_404_is_one_line(download, official, tmp_path):
    del official.files[official.zip]
    line = only_line(download.run("drawn-zip", tmp_path))
    assert "the server answers 404 Not Found" in line
    assert f"put it at {tmp_path / FOLDER / 'drawn.zip'}" in line


def test_without_network_it_says_what_to_bring(download, official, tmp_path):
    official.close()
    line = only_line(download.run("drawn-zip", tmp_path))
    assert "data.example.org/2019/truth.csv: it refuses the connection" in line
    assert f"put it at {tmp_path / FOLDER / 'truth.csv'} and run this again" in line


# Room on disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB; needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_too_little_room_is_told_before_anything_is_fetched(download, official, small_disk, tree):
    line = only_line(download.run("drawn-zip", small_disk))
    assert "not enough room for data set drawn-zip" in line
    assert "67.7 MB needed" in line
    assert "kB free" in line
    assert official.requests == []


def test_a_disk_that_fills_up_loses_nothing(
    download, official, small_disk, undisturbed, tmp_path, tree, monkeypatch
):
    """As when another program writes meanwhile: the check before it found disk_space."""
    with monkeypatch.context() as patch:
        patch.setattr(
            disk_space.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 0, 1 << 40)
        )
        line = only_line(download.run("drawn-zip", small_disk))
    assert f"no space left on {small_disk}" in line
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    monkeypatch.setattr(disk_space, "SPARE_BYTES", 0)
    assert download.run("drawn-zip", small_disk).code == 0
    assert tree(small_disk) == undisturbed


def test_a_root_that_is_a_file_is_one_line(download, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write in" in only_line(download.run("drawn-zip", tmp_path / "file"))


def test_retries_are_bounded(download, official, tmp_path):
    official.fault_always(official.table, status=500)
    line = only_line(download.run("drawn-zip", tmp_path))
    assert "the server answers 500" in line
    assert official.count(official.table) == web.TRIES
