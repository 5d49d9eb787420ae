"""DICOM files as pictures: rescaled, in their own window, high values white."""

import subprocess
import sys

import numpy as np
import pytest

from lmdbench.data.store.decoding import header, open_rgb
from lmdbench.data.store.looking import look
from lmdbench.data.store.scale import Scale

from .handmade import dicom

RAMP = np.linspace(0, 4095, 63).round().astype(np.uint16).reshape(7, 9)


def grey(content: bytes, scale: Scale = Scale()) -> np.ndarray:  # noqa: B008 (frozen)
    image = np.asarray(open_rgb(content, scale)).astype(int)
    assert (image == image[..., :1]).all()
    return image[..., 0]


def test_without_a_window_all_stored_bits_are_the_range():
    assert np.array_equal(grey(dicom(RAMP, 12)), (RAMP / 4095 * 255).round())
    signed = RAMP.astype(np.int16) - 2048
    assert np.array_equal(grey(dicom(signed, 12)), (RAMP / 4095 * 255).round())
    rescaled = dicom(RAMP, 12, RescaleSlope=2, RescaleIntercept=-1024)
    assert np.array_equal(grey(rescaled), (RAMP / 4095 * 255).round())


def test_the_file_s_window_is_that_of_the_rescaled_values():
    """The linear function of PS3.3 C.11.2.1.2, worked out here."""
    elements = {
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "WindowCenter": 40,
        "WindowWidth": 400,
    }
    hounsfield = RAMP.astype(float) - 1024
    share = np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1)
    assert np.abs(grey(dicom(RAMP, 12, **elements)) - share * 255).max() <= 0.5
    several = dicom(RAMP, 12, WindowCenter=[2048, 40], WindowWidth=[4096, 400])
    assert np.abs(grey(several) - RAMP / 4095 * 255).max() <= 1
    assert look(several).dicom == "2048/4096"


def test_monochrome1_is_inverted():
    one, two = (dicom(RAMP, 12, PhotometricInterpretation=f"MONOCHROME{n}") for n in (1, 2))
    assert np.array_equal(grey(one), 255 - grey(two))
    windowed = {"WindowCenter": 2048, "WindowWidth": 1000}
    one = dicom(RAMP, 12, PhotometricInterpretation="MONOCHROME1", **windowed)
    assert np.array_equal(grey(one), 255 - grey(dicom(RAMP, 12, **windowed)))
    assert (look(one).inverted, look(two).inverted) == (True, False)


def test_a_falling_rescale_turns_the_picture_with_or_without_window():
    falling = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    assert np.array_equal(grey(dicom(RAMP, 12, **falling)), 255 - (RAMP / 4095 * 255).round())
    windowed = grey(dicom(RAMP, 12, **falling, WindowCenter=2048, WindowWidth=1000))
    assert windowed[0, 0] == 255
    assert windowed[-1, -1] == 0


def test_a_range_that_is_asked_for_takes_the_window_s_place():
    elements = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 0, "WindowWidth": 9}
    asked = Scale(-1000, 400, clips=True)
    wanted = (np.clip(RAMP.astype(float) - 1024, -1000, 400) + 1000) / 1400 * 255
    assert np.abs(grey(dicom(RAMP, 12, **elements), asked) - wanted).max() <= 0.51


def test_colours_are_as_stored():
    colours = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(open_rgb(dicom(colours, 8))), colours)


def test_eight_bits_and_a_file_without_its_preamble():
    values = (RAMP >> 4).astype(np.uint8)
    content = dicom(values, 8)
    assert np.array_equal(grey(content), values)
    assert np.array_equal(grey(content[132:]), values)


def test_a_window_that_has_no_meaning_is_none():
    without = grey(dicom(RAMP, 12))
    for width in (0, -1, 0.5):
        content = dicom(RAMP, 12, WindowCenter=40, WindowWidth=width)
        assert np.array_equal(grey(content), without)
        assert look(content).dicom == "none"
    with pytest.raises(ValueError, match="slope of 0"):
        open_rgb(dicom(RAMP, 12, RescaleSlope=0, RescaleIntercept=0))


def test_sides_are_read_from_the_header(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(RAMP, 12))
    assert header(tmp_path / "a.dcm") == ((9, 7), "DICOM")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (dicom(np.zeros((14, 9), np.uint8), 8, Rows=7, NumberOfFrames=2), "DICOM of 2 frames"),
        (dicom(RAMP, 12)[:-20], "."),
        (b"\0" * 128 + b"DICM", "DICOM without a picture"),
    ],
)
def test_what_is_no_single_picture_is_refused(content, why):
    with pytest.raises((ValueError, EOFError), match=why):
        open_rgb(content)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"])
def test_a_compression_whose_package_is_missing_names_it(uid):
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    if get_decoder(uid).is_available:
        pytest.skip("its package is here")
    content = dicom(RAMP, 12, PixelData=encapsulate([b"\xff\xd8\xff\xd9"]), TransferSyntaxUID=uid)
    with pytest.raises(ValueError, match=r"compressed as JPEG.*: pip install 'pylibjpeg\[all\]'"):
        open_rgb(content)


def test_without_pydicom_one_line_says_what_to_install(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(RAMP, 12))
    code = (
        "import sys; sys.modules['pydicom'] = None\n"
        "from lmdbench.data.store.decoding import open_rgb\n"
        f"try: open_rgb(open({str(tmp_path / 'a.dcm')!r}, 'rb').read())\n"
        "except ValueError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "DICOM, which takes pydicom: pip install 'lmdbench[dicom]'\n"
