"""What the official data sets declare, and where it lands."""

import hashlib

import pytest

from lmdbench.data.dataset import DATASETS
from lmdbench.data.sources import ApiImages, Archive, File, Home
from lmdbench.download.fetch import Job
from lmdbench.download.isic_api import listed_images

S3 = "https://isic-challenge-data.s3.amazonaws.com/2019"
LMD = "https://raw.githubusercontent.com/peterlipan/LMD/0d632d3/split"
PARTS = ("training", "validation", "testing")
RELEASED = {
    "isic2019": "ISIC2019LT",
    "isic-archive": "ISIC_Archive",
    "hyper-kvasir": "hyper-kvasir",
}
OFFICIAL = {
    "isic2019": {
        f"{S3}/ISIC_2019_Training_Input.zip": "isic2019/ISIC_2019_Training_Input.zip",
        f"{S3}/ISIC_2019_Training_GroundTruth.csv": "isic2019/ISIC_2019_Training_GroundTruth.csv",
        f"{S3}/ISIC_2019_Training_Metadata.csv": "isic2019/ISIC_2019_Training_Metadata.csv",
        **{f"{LMD}/ISIC2019LT/{p}.csv": f"isic2019/released-split/{p}.csv" for p in PARTS},
    },
    "hyper-kvasir": {
        "https://datasets.simula.no/downloads/hyper-kvasir/hyper-kvasir-labeled-images.zip": (
            "hyper-kvasir/hyper-kvasir-labeled-images.zip"
        ),
        **{f"{LMD}/hyper-kvasir/{p}.csv": f"hyper-kvasir/released-split/{p}.csv" for p in PARTS},
    },
    "isic-archive": {
        **{f"{LMD}/ISIC_Archive/{p}.csv": f"isic-archive/{p}.csv" for p in PARTS},
        "https://api.isic-archive.com/api/v2/images": "isic-archive/images",
    },
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_addresses_and_places(name, tmp_path):
    downloads = DATASETS.get(name).downloads
    home = downloads.home(tmp_path)
    places = {s.url: str(home.place(s.target).relative_to(tmp_path)) for s in downloads.sources}
    assert places == OFFICIAL[name]


@pytest.mark.parametrize("name", RELEASED)
def test_checksums_are_those_of_the_released_files(name, test_data):
    files = [s for s in DATASETS.get(name).downloads.sources if isinstance(s, File) and s.sha256]
    assert len(files) == 3
    for file in files:
        path = test_data / "published-splits" / RELEASED[name] / file.url.rpartition("/")[2]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


@pytest.mark.parametrize(("name", "images"), [("isic2019", 25331), ("hyper-kvasir", 10662)])
def test_archives_hold_the_images_of_the_classes(name, images):
    kind = DATASETS.get(name)
    (archive,) = (s for s in kind.downloads.sources if isinstance(s, Archive))
    assert archive.images == images == sum(kind.class_sizes.values())


def test_rows_of_the_official_tables(test_data):
    files = [s for s in DATASETS.get("isic2019").downloads.sources if isinstance(s, File)]
    for file in files[:2]:
        lines = (test_data / "isic2019" / file.target).read_text().splitlines()
        assert file.rows == len(lines) - 1 == 25331


def test_members_of_the_official_archives():
    def archive(name):
        return next(s for s in DATASETS.get(name).downloads.sources if isinstance(s, Archive))

    isic, kvasir = archive("isic2019"), archive("hyper-kvasir")
    assert isic.is_image("ISIC_2019_Training_Input/ISIC_0000002_downsampled.jpg")
    assert not isic.is_image("ISIC_2019_Training_Input/LICENSE.txt")
    assert not isic.is_image("ISIC_0000002.jpg")
    assert kvasir.is_image("labeled-images/lower-gi-tract/anatomical-landmarks/cecum/a.jpg")
    assert kvasir.tables == ("labeled-images/image-labels.csv",)


def test_the_archives_images_are_those_of_the_released_tables(test_data):
    (source,) = (
        s for s in DATASETS.get("isic-archive").downloads.sources if isinstance(s, ApiImages)
    )
    images = listed_images(source, Home(test_data / "published-splits" / "ISIC_Archive"))
    assert len(set(images)) == len(images) == 25020
    assert source.address(images[0]) == (f"https://api.isic-archive.com/api/v2/images/{images[0]}/")


@pytest.mark.parametrize("name", ["demo", "folder"])
def test_what_is_drawn_or_the_users_has_no_downloads(name):
    assert DATASETS.get(name).downloads is None


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_one_says_what_to_cite(name):
    citation = DATASETS.get(name).citation
    assert any("2502.03238" in text for text in citation)
    assert len(citation) >= 2


@pytest.mark.parametrize(
    ("table", "home", "place"),
    [
        (None, "hyper-kvasir", "hyper-kvasir/labeled-images/a.jpg"),
        ("hyper-kvasir/labeled-images/image-labels.csv", "hyper-kvasir",
         "hyper-kvasir/labeled-images/a.jpg"),
        ("labeled-images/image-labels.csv", ".", "labeled-images/a.jpg"),
        ("image-labels.csv", ".", "a.jpg"),
    ],
)  # fmt: skip
def test_files_land_where_the_data_set_looks_for_them(tmp_path, table, home, place):
    kind = DATASETS.get("hyper-kvasir")
    if table:
        (tmp_path / table).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / table).write_text("Video file,Organ,Finding,Classification\n")
    found = kind.downloads.home(tmp_path)
    assert found.folder == tmp_path / home
    assert found.place("labeled-images/a.jpg") == tmp_path / place
    assert (
        found.place("released-split/testing.csv") == tmp_path / home / "released-split/testing.csv"
    )
    if table:
        assert kind(tmp_path, tmp_path).image_root == found.place("labeled-images/a.jpg").parent


def test_the_total_of_a_job(tmp_path):
    downloads = DATASETS.get("isic2019").downloads
    assert Job("isic2019", downloads, downloads.home(tmp_path)).images == 25331
