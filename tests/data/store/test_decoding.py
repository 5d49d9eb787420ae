"""What is read from an image file, whatever wrote it."""

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lmdbench.data.store.decoding import open_rgb, readable_endings
from lmdbench.data.store.looking import look
from lmdbench.data.store.scale import Scale, Values, of_bits

from .handmade import chunk, encoded, png16, tiff

RAMP = np.linspace(0, 4095, 63).round().astype(np.uint16).reshape(7, 9)  # 12 bits
TWELVE = of_bits(12)


def levels(content: bytes, scale: Scale = TWELVE) -> np.ndarray:
    """(H, W, 3) int, for differences."""
    return np.asarray(open_rgb(content, scale)).astype(int)


def expected(values: np.ndarray, white: float = 4095.0) -> np.ndarray:
    """Values (H, W) as grey (H, W, 3)."""
    return np.repeat((values * 255.0 / white).round()[..., None], 3, axis=2)


def test_all_endings_of_the_formats_that_are_read_are_known():
    jpeg, tiffs = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}, {".tif", ".tiff"}
    jpeg2000 = {".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"}
    others = {".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".dcm", ".dicom"}
    assert jpeg | tiffs | jpeg2000 | others <= readable_endings()
    assert not {".pdf", ".txt", ".npz", ".mpg"} & readable_endings()


# More than 8 bits


@pytest.mark.parametrize(
    "content",
    [
        png16(RAMP),
        encoded(Image.fromarray(RAMP), "TIFF"),
        encoded(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
        tiff(RAMP, order=">"),
        tiff(RAMP.astype(np.int16)),
        tiff(RAMP.astype(np.int32), bits=32),
        tiff(RAMP.astype(np.float32), bits=32),
        tiff(RAMP.astype(np.float32), order=">", bits=32),
    ],
    ids=["PNG", "TIFF", "LZW", "big endian", "signed", "32 bits", "float", "float, big endian"],
)
def test_twelve_bits_keep_all_their_contrast(content):
    assert np.array_equal(levels(content), expected(RAMP))


def test_twelve_packed_bits_are_values_of_twelve_bits():
    pairs = RAMP[:6, :8].reshape(-1, 2).astype(int)
    packed = [(a >> 4, (a & 15) << 4 | b >> 8, b & 255) for a, b in pairs]
    content = tiff(RAMP[:6, :8], bits=12, data=np.array(packed, np.uint8).tobytes())
    assert np.array_equal(levels(content), expected(RAMP[:6, :8]))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_colours_of_twelve_bits_keep_both_bytes(order, packed):
    values = np.dstack([RAMP, RAMP[::-1], RAMP // 2])
    wanted = (values * 255.0 / 4095).round()
    assert np.array_equal(levels(tiff(values, order=order, packed=packed)), wanted)
    assert np.array_equal(levels(png16(values)), wanted)


def test_alpha_of_sixteen_bits_stays_alpha():
    opaque = np.full_like(RAMP, 4095)
    assert np.array_equal(levels(png16(np.dstack([RAMP, opaque]))), expected(RAMP))
    assert np.array_equal(levels(png16(np.dstack([RAMP, RAMP, RAMP, opaque]))), expected(RAMP))
    half = np.where(RAMP > 2000, 65535, 0).astype(np.uint16)
    assert (levels(png16(np.dstack([RAMP, half])))[RAMP <= 2000] == 0).all()


def test_all_sixteen_bits_are_read_as_ever():
    values = np.arange(0, 65536, 9).astype(np.uint16)[:7200].reshape(80, 90)
    grey = np.asarray(open_rgb(png16(values)))
    assert np.array_equal(grey[..., 0], (values / 257).round())
    colours = np.dstack([values, values[::-1], values.T.reshape(80, 90)])
    assert np.array_equal(np.asarray(open_rgb(png16(colours))), colours >> 8)


def test_a_value_beyond_the_scale_is_an_error_unless_it_is_cut():
    with pytest.raises(ValueError, match=r"values from 0 to 4095, beyond 0\.\.1023"):
        open_rgb(png16(RAMP), of_bits(10))
    cut = levels(png16(RAMP), Scale(1000, 3000, clips=True))
    wanted = expected(np.clip(RAMP.astype(float), 1000, 3000) - 1000, 2000)
    assert np.abs(cut - wanted).max() <= 1  # halves are rounded either way
    assert cut.min() == 0
    assert cut.max() == 255


def test_floats_without_a_range_and_no_numbers_are_refused():
    floats = (RAMP / 4095).astype(np.float32)
    with pytest.raises(ValueError, match="unknown range"):
        open_rgb(tiff(floats, bits=32))
    assert np.array_equal(levels(tiff(floats, bits=32), Scale(0, 1)), expected(RAMP))
    floats[0, 0] = np.nan
    with pytest.raises(ValueError, match="no finite numbers"):
        open_rgb(tiff(floats, bits=32))
    with pytest.raises(ValueError, match="no finite numbers"):
        open_rgb(tiff(floats, bits=32), Scale(0, 1))


@pytest.mark.parametrize(
    "content",
    [b"P5 9 7 65535\n" + RAMP.astype(">u2").tobytes(), encoded(Image.fromarray(RAMP), "JPEG2000")],
    ids=["PGM", "JPEG 2000"],
)
def test_a_file_that_states_all_sixteen_bits_may_hold_fewer(content):
    assert np.array_equal(levels(content), expected(RAMP))
    assert look(content).values == Values(0, 4095)


@pytest.mark.parametrize("most", [1023, 4095])
def test_a_pgm_says_its_range_itself(most):
    values = (RAMP.astype(int) * most // 4095).astype(">u2")
    content = b"P5 9 7 %d\n" % most + values.tobytes()
    assert np.abs(levels(content, of_bits(8)) - expected(values, most)).max() <= 1


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_zero_is_white_where_the_file_says_so(kind):
    values = (RAMP >> 4).astype(kind)
    content = tiff(values, bits=8 * values.itemsize, photometric=0)
    assert np.array_equal(levels(content, of_bits(8)), 255 - expected(values, 255))


def test_planes_of_sixteen_bits_are_not_read_wrongly():
    with pytest.raises(ValueError, match="16 bits in separate planes"):
        open_rgb(tiff(np.dstack([RAMP] * 3), planes=2))


def test_whole_numbers_that_pillow_takes_for_others_are_not_read_wrongly():
    with pytest.raises(ValueError, match="8 bits with a sign"):
        open_rgb(tiff((RAMP >> 4).astype(np.int8), bits=8))
    large = tiff(RAMP.astype(np.uint32) << 20, bits=32)
    for read in (look, lambda content: open_rgb(content, Scale(0, 2**32, clips=True))):
        with pytest.raises(ValueError, match="2,147,483,648 or more"):
            read(large)
    assert np.array_equal(levels(tiff(RAMP.astype(np.uint32), bits=32)), expected(RAMP))
    assert look(tiff(RAMP.astype(np.int32) - 9, bits=32)).values == Values(-9, 4086)


# Alpha, orders of colours, several pictures, orientation

SEEN = np.full((4, 6, 3), (200, 100, 50), np.uint8)


def with_alpha(alpha: int) -> Image.Image:
    image = Image.fromarray(SEEN)
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_alpha_of_zeros_everywhere_hides_nothing(kind):
    assert np.array_equal(levels(encoded(with_alpha(0), kind)), SEEN)
    partly = with_alpha(0)
    partly.putpixel((0, 0), (200, 100, 50, 255))
    seen = levels(encoded(partly, kind))
    assert tuple(seen[0, 0]) == (200, 100, 50)
    assert seen.sum() == 350


def test_a_palette_of_transparent_colours_hides_nothing():
    image = Image.fromarray(SEEN).quantize(2)
    assert np.array_equal(levels(encoded(image, transparency=b"\0" * 256)), SEEN)


def test_a_cmyk_jpeg_is_not_inverted():
    content = encoded(Image.fromarray(SEEN).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(levels(content) - SEEN).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_pictures_the_first_is_read(kind):
    others = [Image.new("RGB", (6, 4), shade) for shade in ("blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(SEEN), kind, save_all=True, append_images=others, **options)
    assert np.array_equal(levels(content), SEEN)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_orientation_is_applied_in_every_format(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    image = Image.fromarray(np.arange(24, dtype=np.uint8).repeat(3).reshape(4, 6, 3) * 10)
    options = {"lossless": True} if kind == "WEBP" else {}
    seen = levels(encoded(image, kind, exif=exif, **options))
    assert seen.shape == (6, 4, 3)
    assert np.abs(seen - np.rot90(np.asarray(image).astype(int), -1)).max() <= 3 * (kind == "JPEG")


# Sound pixels beside what is not

LARGE = PngImagePlugin.PngInfo()
LARGE.add_text("Comment", "x" * 2_000_000, zip=True)
MANY = b"".join(chunk(b"tEXt", b"Note\0" + b"x" * 900_000) for _ in range(80))


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(SEEN), pnginfo=LARGE),
        encoded(Image.fromarray(SEEN), icc_profile=b"\0" * 2_000_000),
        png16(SEEN.astype(np.uint16) * 257, MANY),
        png16(SEEN.astype(np.uint16) * 257, chunk(b"tIME", b"short")[:-1] + b"?"),
    ],
    ids=["text", "profile", "72 MB of texts", "checksum"],
)
def test_what_stands_beside_the_pixels_is_no_reason_to_refuse(content):
    assert np.array_equal(levels(content, Scale()), SEEN)


def test_a_picture_that_is_cut_short_is_one():
    noise = np.random.default_rng(0).integers(0, 65536, (40, 40)).astype(np.uint16)
    for content in (png16(noise), png16(noise, MANY)):
        with pytest.raises((OSError, ValueError, SyntaxError)):
            open_rgb(content[:-2000])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "heic, which is not read; save it as PNG"),
        (tiff(RAMP.astype(np.float64), bits=64), "a TIFF of a kind that Pillow can't read"),
        (b"<html>", "not an image"),
        (b"", "empty file"),
    ],
)
def test_what_is_not_read_is_told_by_its_kind(content, why):
    with pytest.raises(ValueError, match=why):
        open_rgb(content)
