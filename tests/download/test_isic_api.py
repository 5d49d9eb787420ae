"""``lmdbench data download`` of images that come one by one: whole, killed, throttled, gone."""

import csv
import io
import json
import os
import signal
import subprocess
import time

import pytest
from PIL import Image

from lmdbench.download import isic_api, web
from lmdbench.download.journal import Journal, read_gone, write_gone, write_metadata

FOLDER = "drawn-api"


def only_line(outcome, code=2):
    assert outcome.code == code, outcome.err
    *_, last = outcome.err.strip().splitlines()
    assert last.startswith("lmdbench: ")
    return last


@pytest.fixture
def undisturbed(download, official, tmp_path, tree):
    assert download.run("drawn-api", tmp_path / "undisturbed").code == 0
    files = tree(tmp_path / "undisturbed")
    official.requests.clear()
    return files


def images(files):
    return {name: content for name, content in files.items() if "/images/" in name}


def asked(official):
    """Images that the API was asked about, in the order of the questions."""
    return [path.split("/")[-2] for path, _ in official.requests if "/api/v2/" in path]


def test_images_and_metadata_land_where_the_data_set_looks(download, official, tmp_path, tree):
    outcome = download.run("drawn-api", tmp_path)
    assert outcome.code == 0, outcome.err
    assert f"drawn-api is complete: 12 images in {tmp_path / FOLDER}" in outcome.out
    files = tree(tmp_path / FOLDER)
    for image in official.images:
        assert files[f"images/{image}.jpg"] == official.files[official.file(image)]
    assert set(files) == {
        "training.csv",
        "metadata.csv",
        ".download/complete.json",
        ".download/images.jsonl",
        *(f"images/{image}.jpg" for image in official.images),
    }
    rows = list(csv.DictReader(io.StringIO(files["metadata.csv"].decode())))
    assert list(rows[0]) == [
        *("isic_id", "attribution", "copyright_license"),
        *("age_approx", "image_type", "lesion_id", "sex"),
    ]
    assert [row["isic_id"] for row in rows] == official.images
    assert rows[3] == {
        "isic_id": "DRAW_0000003",
        "attribution": "Drawn, by nobody",
        "copyright_license": "CC-0",
        "age_approx": "15",
        "image_type": "dermoscopic",
        "lesion_id": "IL_3",
        "sex": "female",
    }
    assert rows[4]["lesion_id"] == ""


def test_again_it_answers_without_network(download, official, undisturbed, tmp_path, tree):
    official.close()
    outcome = download.run("drawn-api", tmp_path / "undisturbed")
    assert "drawn-api is there already: 12 images" in outcome.out
    assert outcome.err == ""
    assert tree(tmp_path / "undisturbed") == undisturbed


def test_only_what_lacks_is_asked_for(download, official, undisturbed, tmp_path, tree):
    root = tmp_path / "undisturbed"
    (root / FOLDER / "images" / "DRAW_0000005.jpg").unlink()
    (root / FOLDER / "images" / "DRAW_0000007.jpg").write_bytes(b"")
    assert download.run("drawn-api", root).code == 0
    assert sorted(asked(official)) == ["DRAW_0000005", "DRAW_0000007"]
    assert tree(root) == undisturbed


def test_an_image_of_another_size_is_replaced(download, official, undisturbed, tmp_path, tree):
    root = tmp_path / "undisturbed"
    path = root / FOLDER / "images" / "DRAW_0000005.jpg"
    path.write_bytes(path.read_bytes()[:1000])
    (root / FOLDER / ".download" / "complete.json").unlink()
    assert download.run("drawn-api", root).code == 0
    assert asked(official) == ["DRAW_0000005"]
    assert tree(root) == undisturbed


# Killed and interrupted

KILLED_AT_RENAME = """
import os, signal, threading
left, lock = {n}, threading.Lock()
def killing(rename):
    def replacement(*args, **kwargs):
        global left
        with lock:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return rename(*args, **kwargs)
    return replacement
os.replace, os.rename = killing(os.replace), killing(os.rename)
"""
KILLED_IN_THE_JOURNAL = """
import os, signal
from lmdbench.download import journal
whole = journal._line
def half(record):
    if record["isic_id"] == "DRAW_0000006":
        with open(PATH, "a") as file:
            file.write(whole(record)[:40])
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(record)
journal._line = half
"""


@pytest.mark.parametrize("n", [4, 10, 16, 17, 18, 20])
def test_killed_at_a_rename_and_started_again(download, official, undisturbed, tmp_path, tree, n):
    root = tmp_path / "killed"
    killed = download.start("drawn-api", root, code=KILLED_AT_RENAME.format(n=n))
    assert killed.wait() == -signal.SIGKILL
    outcome = download.run("drawn-api", root)
    assert outcome.code == 0, outcome.err
    assert tree(root) == undisturbed


def test_killed_within_a_line_of_the_journal(download, official, undisturbed, tmp_path, tree):
    root = tmp_path / "killed"
    path = root / FOLDER / ".download" / "images.jsonl"
    code = KILLED_IN_THE_JOURNAL.replace("PATH", repr(str(path)))
    killed = download.start("drawn-api", root, "--workers", "1", code=code)
    assert killed.wait() == -signal.SIGKILL
    assert not path.read_text().endswith("\n")
    official.requests.clear()
    assert download.run("drawn-api", root).code == 0
    # The first six are known; the seventh is there, and only its record is asked for.
    assert sorted(asked(official)) == official.images[6:]
    assert official.count(official.file("DRAW_0000006")) == 0
    assert tree(root) == undisturbed


def test_interrupted_it_writes_what_is_known_and_says_how_to_go_on(
    download, official, undisturbed, tmp_path, tree
):
    root = tmp_path / "killed"
    process: subprocess.Popen | None = None

    def interrupt():
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)

    official.fault(official.file("DRAW_0000006"), cut=1000, act=interrupt)
    process = download.start("drawn-api", root, "--workers", "1")
    _, err = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on from there" in err.splitlines()[-1]
    rows = list(csv.DictReader((root / FOLDER / "metadata.csv").open()))
    assert [row["isic_id"] for row in rows] == official.images[:6]
    assert download.run("drawn-api", root).code == 0
    assert tree(root) == undisturbed


# Images that are gone


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "archive answers 404"), (410, "archive answers 410"), (403, "archive answers 403")],
)
def test_gone_images_do_not_stop_the_rest(download, official, tmp_path, tree, status, reason):
    for image in ("DRAW_0000002", "DRAW_0000009"):
        headers = {"Content-Type": "application/json"} if status == 403 else {}
        official.fault_always(official.api(image), status=status, headers=headers)
    outcome = download.run("drawn-api", tmp_path)
    assert outcome.code == 0
    gone = tmp_path / FOLDER / "gone.csv"
    assert f"10 of 12 images in {tmp_path / FOLDER}; 2 gone from the archive" in outcome.out
    assert f"listed in {gone}: runs need --allow-missing" in outcome.out
    assert gone.read_text() == (
        f"isic_id,reason\nDRAW_0000002,the {reason}\nDRAW_0000009,the {reason}\n"
    )
    assert len(images(tree(tmp_path))) == 10
    official.requests.clear()
    outcome = download.run("drawn-api", tmp_path)
    assert "is there already: 10 of 12 images" in outcome.out
    assert official.requests == []


def test_a_file_that_is_gone_counts_too_and_may_come_back(download, official, tmp_path, tree):
    official.fault(official.file("DRAW_0000004"), status=404)
    outcome = download.run("drawn-api", tmp_path)
    assert "11 of 12 images" in outcome.out
    gone = tmp_path / FOLDER / "gone.csv"
    assert gone.read_text() == "isic_id,reason\nDRAW_0000004,its file answers 404\n"
    gone.unlink()
    outcome = download.run("drawn-api", tmp_path)
    assert "drawn-api is complete: 12 images" in outcome.out
    assert not gone.exists()


def test_an_address_where_everything_is_gone_is_an_error(download, official, tmp_path):
    for image in official.images:
        del official.files[official.api(image)]
    line = only_line(download.run("drawn-api", tmp_path))
    assert "12 images in a row seem to be gone" in line
    assert "does the --mirror lack it?" in line
    assert not (tmp_path / FOLDER / "gone.csv").exists()


def test_a_guard_that_refuses_everyone_makes_no_image_gone(download, official, tmp_path):
    """A 403 that is no JSON is not the API's word on an image."""
    path = official.api("DRAW_0000006")
    official.fault_always(
        path, status=403, body=official.page, headers={"Content-Type": "text/html"}
    )
    line = only_line(download.run("drawn-api", tmp_path))
    assert "1 of 12 images could not be fetched, such as DRAW_0000006" in line
    assert "403 Forbidden" in line
    assert not (tmp_path / FOLDER / "gone.csv").exists()


def test_many_gone_in_a_row_are_an_error_even_after_others(
    download, official, tmp_path, monkeypatch
):
    monkeypatch.setattr(isic_api, "SUSPICIOUS", 5)
    for image in official.images[4:]:
        del official.files[official.api(image)]
    line = only_line(download.run("drawn-api", tmp_path, "--workers", 1))
    assert "5 images in a row seem to be gone" in line


def test_the_last_few_may_well_be_gone(download, official, undisturbed, tmp_path):
    root = tmp_path / "undisturbed"
    (root / FOLDER / "images" / "DRAW_0000005.jpg").unlink()
    official.fault_always(official.api("DRAW_0000005"), status=404)
    assert "11 of 12 images" in download.run("drawn-api", root).out


# Answers that are wrong


def cut_short(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut_short, "bytes where the archive tells"),
        (lambda content: content + b"x", "has more bytes where the archive tells"),
        (lambda content: b"<html>" + content[6:], "its file is no image"),
    ],
)
def test_what_is_no_whole_image_is_not_kept(
    download, official, undisturbed, tmp_path, tree, change, reason
):
    path = official.file("DRAW_0000003")
    right, official.files[path] = official.files[path], change(official.files[path])
    line = only_line(download.run("drawn-api", tmp_path / "new"))
    assert "1 of 12 images could not be fetched, such as DRAW_0000003" in line
    assert reason in line
    assert "the same command tries these again" in line
    assert official.count(path) == web.TRIES
    assert len(images(tree(tmp_path / "new"))) == 11
    official.files[path] = right
    official.requests.clear()
    assert download.run("drawn-api", tmp_path / "new").code == 0
    assert asked(official) == ["DRAW_0000003"]
    assert tree(tmp_path / "new") == undisturbed


def test_a_passing_fault_is_tried_again(download, official, undisturbed, tmp_path, tree):
    official.fault(official.api("DRAW_0000001"), status=500)
    official.fault(official.api("DRAW_0000002"), status=200, body=official.page)
    official.fault(official.api("DRAW_0000003"), status=200, body=b'{"files": {}}')
    nowhere = official.files[official.api("DRAW_0000008")].replace(b"https:/", b"file:/")
    official.fault(official.api("DRAW_0000008"), status=200, body=nowhere)
    official.fault(official.file("DRAW_0000004"), cut=100)
    official.fault(official.file("DRAW_0000005"), status=403)  # its signature ran out
    other = official.files[official.api("DRAW_0000007")]
    official.fault(official.api("DRAW_0000006"), status=200, body=other)
    assert download.run("drawn-api", tmp_path / "new").code == 0
    assert tree(tmp_path / "new") == undisturbed
    assert official.count(official.api("DRAW_0000005")) == 2


def test_a_pause_that_the_server_asks_for_is_kept_by_all(download, official, tmp_path):
    headers = {"Retry-After": "1"}
    official.fault(official.api("DRAW_0000003"), status=429, headers=headers)
    outcome = download.run("drawn-api", tmp_path, "--workers", 4)
    assert outcome.code == 0
    said = "api.isic-archive.com: the server answers 429 Too Many Requests; waiting 1 s"
    assert outcome.err.count(said) == 1
    gaps = [b - a for a, b in zip(official.times, official.times[1:], strict=False)]
    (long,) = (position for position, gap in enumerate(gaps) if gap > 0.5)
    # Requests that were on their way come before the pause, and all others after it.
    assert len(gaps) - long > 10


def test_so_many_at_a_time(download, official, tmp_path):
    under_way, most = 0, 0

    def wait():
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.02)
        under_way -= 1

    for image in official.images:
        official.fault_always(official.file(image), act=wait)
    assert download.run("drawn-api", tmp_path, "--workers", 3).code == 0
    assert 2 <= most <= 3


@pytest.mark.parametrize("workers", ["0", "33", "many"])
def test_no_other_number_of_workers(download, official, tmp_path, workers):
    assert "--workers" in only_line(download.run("drawn-api", tmp_path, "--workers", workers))
    assert official.requests == []


# Without network, and images brought by hand


def test_without_network_it_says_that_a_folder_of_images_will_do(
    download, official, tmp_path, monkeypatch
):
    waited = []
    monkeypatch.setattr(web.Web, "_sleep", lambda _, seconds: waited.append(seconds))
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "training.csv").write_bytes(official.files[official.split])
    official.close()
    line = only_line(download.run("drawn-api", tmp_path))
    assert sum(waited) < 5
    assert "api.isic-archive.com/api/v2/images: it refuses the connection" in line
    assert "`isic`" in line
    assert f"put them as <isic_id>.jpg into {tmp_path / FOLDER / 'images'}" in line


def test_a_network_that_goes_away_is_noticed_before_long(download, official, tmp_path):
    for image in official.images[3:]:
        official.fault_always(official.api(image), cut=0)
    line = only_line(download.run("drawn-api", tmp_path, "--workers", 2))
    assert "the connection broke" in line
    assert len(set(asked(official))) < 12


def test_all_images_brought_by_hand_need_no_network(download, official, undisturbed, tmp_path):
    folder = tmp_path / "hand" / FOLDER
    (folder / "images").mkdir(parents=True)
    (folder / "training.csv").write_bytes(official.files[official.split])
    (folder / "metadata.csv").write_text("isic_id,lesion_id\nDRAW_0000001,IL_1\n")
    for image in official.images:
        (folder / "images" / f"{image}.jpg").write_bytes(official.files[official.file(image)])
    official.close()
    outcome = download.run("drawn-api", tmp_path / "hand")
    assert outcome.code == 0
    assert "all 12 images are in" in outcome.err
    assert (folder / "metadata.csv").read_text() == "isic_id,lesion_id\nDRAW_0000001,IL_1\n"


def test_some_brought_by_hand_are_kept_even_if_gone_since(download, official, tmp_path):
    folder = tmp_path / FOLDER
    (folder / "images").mkdir(parents=True)
    for image in official.images[:3]:
        (folder / "images" / f"{image}.jpg").write_bytes(official.files[official.file(image)])
    (folder / "metadata.csv").write_text("isic_id,lesion_id,mine\nDRAW_0000001,IL_1,x\n")
    official.fault_always(official.api("DRAW_0000001"), status=404)
    outcome = download.run("drawn-api", tmp_path)
    assert "drawn-api is complete: 12 images" in outcome.out
    assert not [p for p, _ in official.requests if p.endswith(("1.jpg", "2.jpg"))
                and p < official.file("DRAW_0000003")]  # fmt: skip
    rows = {row["isic_id"]: row for row in csv.DictReader((folder / "metadata.csv").open())}
    assert rows["DRAW_0000001"]["lesion_id"] == "IL_1"
    assert rows["DRAW_0000001"]["mine"] == "x"
    assert rows["DRAW_0000003"]["lesion_id"] == "IL_3"


def test_a_full_disk_is_one_line(download, official, undisturbed, tmp_path, tree):
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted as root")
    try:
        code = (
            "import shutil; shutil.disk_usage = lambda _: shutil._ntuple_diskusage(1, 0, 1 << 40)"
        )
        process = download.start("drawn-api", folder, code=code)
        _, err = process.communicate()
        assert process.returncode == 2, err
        assert f"no space left on {folder}" in err.splitlines()[-1]
        subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
        process = download.start("drawn-api", folder, code=code)
        assert process.wait() == 0
        assert tree(folder) == undisturbed
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# The tables


def record(image, **clinical):
    return {
        "isic_id": image,
        "attribution": "a, b",
        "copyright_license": "CC-BY",
        "size": 5,
        "acquisition": {"image_type": "dermoscopic", "pixels_x": 1024},
        "clinical": clinical,
    }


def test_the_journal_keeps_the_newest_and_ignores_what_is_damaged(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.add(record("b"))
        journal.add(record("a", age_approx=30))
        journal.add(record("a", age_approx=35))
        assert len(path.read_text().splitlines()) == 3
    assert [json.loads(line)["isic_id"] for line in path.read_text().splitlines()] == ["a", "b"]
    with path.open("ab") as file:
        file.write(b'[]\n{"isic_id": "c"}\n\xff\xfe\n{"isic_id": "d", "si')
    assert Journal(path).records == {"a": record("a", age_approx=35), "b": record("b")}


def test_metadata_columns_are_those_of_the_archives_own_tool(tmp_path):
    """Id, attribution and licence, then all other fields sorted; text as Python's csv writes it."""
    path = tmp_path / "metadata.csv"
    write_metadata(path, [record("b", sex="male", melanocytic=True), record("a", age_approx=None)])
    assert path.read_text() == (
        "isic_id,attribution,copyright_license,age_approx,image_type,melanocytic,pixels_x,sex\n"
        'a,"a, b",CC-BY,,dermoscopic,,1024,\n'
        'b,"a, b",CC-BY,,dermoscopic,True,1024,male\n'
    )


@pytest.mark.parametrize(
    "content",
    [b"isic_id\nM\xfcnchen\n", bytes(100), bytes(200_000), b"image,sex\na,male\n"],
    ids=["no UTF-8", "zeros", "a long cell", "another table"],
)
def test_metadata_that_cannot_be_read_are_moved_aside(tmp_path, content):
    path = tmp_path / "metadata.csv"
    path.write_bytes(content)
    aside = write_metadata(path, [record("a")])
    assert aside.name.startswith("metadata.csv.damaged-")
    assert aside.read_bytes() == content
    assert [row["isic_id"] for row in csv.DictReader(path.open())] == ["a"]
    assert write_metadata(path, [record("b")]) is None
    assert [row["isic_id"] for row in csv.DictReader(path.open())] == ["a", "b"]


def test_damaged_metadata_are_told_as_a_download_ends(download, official, tmp_path):
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "metadata.csv").write_bytes(bytes(200_000))
    outcome = download.run("drawn-api", tmp_path)
    assert outcome.code == 0
    assert "metadata.csv was there, but no table by isic_id; it is" in outcome.err


def test_the_list_of_gone_images(tmp_path):
    path = tmp_path / "gone.csv"
    assert read_gone(path) == set()
    write_gone(path, {"b": "why, indeed", "a": "404"})
    assert read_gone(path) == {"a", "b"}
    path.write_bytes(bytes(200_000))
    assert read_gone(path) == set()
    write_gone(path, {})
    assert not path.exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_an_image_is_known_by_its_header(kind):
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, kind)
    isic_api.refuse_no_image(file.getvalue())
    for wrong in (b"", b"<html>", file.getvalue()[4:]):
        with pytest.raises(web.Again, match="no image"):
            isic_api.refuse_no_image(wrong)


def test_a_login_page_instead_of_the_api_is_told_at_once(download, official, tmp_path):
    for image in official.images:
        headers = {"Content-Type": "text/html"}
        official.fault_always(official.api(image), status=200, body=official.page, headers=headers)
    outcome = download.run("drawn-api", tmp_path / "portal")
    assert outcome.code == 2
    assert "a web page came instead: is there a login page before the network?" in outcome.err
