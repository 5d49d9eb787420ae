"""Options and texts of ``lmdbench data download``; what it fetches is tested in tests/download."""

import subprocess
import sys

import pytest

from lmdbench.cli.data.download import checked_mirror
from lmdbench.core import progress
from lmdbench.core.errors import UserError

NOWHERE = "http://127.0.0.1:9"  # refuses connections


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['lmdbench', 'data', 'download', '--help']\n"
        "from lmdbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'rich', 'PIL', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
    assert "LMDBENCH_MIRROR" in result.stdout


@pytest.mark.parametrize(
    ("name", "reason"), [("demo", "drawn when they are first used"), ("folder", "your own images")]
)
def test_nothing_to_download_is_one_clear_line(lmdbench, name, reason):
    outcome = lmdbench("data", "download", name)
    assert outcome.code == 0
    assert f"data set {name} has nothing to download: " in outcome.out
    assert reason in outcome.out
    assert len(outcome.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["isic2018"], "unknown data set 'isic2018'. Did you mean isic2019"),
        (["isic2019"], "needs --data-root DIR (or LMDBENCH_DATA): where to put it"),
        (["isic2019", "--data-root", ""], "--data-root is empty"),
        (["isic2019", "--data-root", "x", "--mirror", "/mnt/mirror"], "begins with http://"),
        (["isic2019", "--data-root", "x", "--plugin", "absent.py"], "no such file"),
        ([], "Missing argument 'NAME'"),
    ],
)
def test_mistakes_get_one_line(lmdbench, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = lmdbench("data", "download", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["isic2019", "hyper-kvasir", "isic-archive"])
def test_the_official_ones_say_terms_addresses_and_places(lmdbench, tmp_path, monkeypatch, name):
    monkeypatch.setattr("lmdbench.download.web.BACK_OFF", 0.01)
    monkeypatch.setattr("lmdbench.download.disk_space.SPARE_BYTES", 0)
    monkeypatch.setattr("lmdbench.download.disk_space.shutil.disk_usage", lambda _: Plenty)
    monkeypatch.setenv("LMDBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LMDBENCH_MIRROR", f"{NOWHERE}/")
    outcome = lmdbench("data", "download", name)
    assert outcome.code == 2
    *said, last = outcome.err.splitlines()
    assert any(line.startswith("licence  ") and len(line) > 20 for line in said)
    assert any(line.startswith("cite     ") and "2502.03238" in line for line in said)
    addresses = [line.split()[1] for line in said if line.startswith("from ")]
    places = [line.split()[1] for line in said if line.startswith("to ")]
    assert len(addresses) == len(places) >= 4
    assert all(place.startswith(f"{tmp_path / 'data' / name}/") for place in places)
    first = addresses[0].removeprefix("https:/")
    assert f"{NOWHERE}{first}: it refuses the connection" in last
    assert f"put it at {places[0]} " in last


class Plenty:
    free = 1 << 50


def test_a_mirror_is_an_address():
    assert checked_mirror(None) is checked_mirror("") is None
    assert checked_mirror("https://mirror.example.org/data/") == "https://mirror.example.org/data"
    for wrong in ("ftp://host/x", "mirror.example.org", "http://", "file:///mnt"):
        with pytest.raises(UserError, match="--mirror"):
            checked_mirror(wrong)


def test_plain_lines_come_every_so_often_with_the_time_left(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines = progress.Lines()
    lines.start("a.zip", 4_000_000, "bytes", 1_000_000)
    for now, done in ((105.0, 1_500_000), (110.0, 2_000_000), (115.0, 2_500_000)):  # noqa: B007
        lines.update(done)
    lines.update(4_000_000)
    lines.start("images", 25020, "images")
    lines.start("b.csv", None, "bytes")
    assert capsys.readouterr().err.splitlines() == [
        "a.zip: 1 MB of 4 MB",
        "a.zip: 2 MB of 4 MB  0:20 left",
        "a.zip: 4 MB of 4 MB  0:00 left",
        "images: 0 of 25,020",
        "b.csv: 0 bytes",
    ]
