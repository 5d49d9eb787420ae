"""What is read from an image file, whatever wrote it."""

from lmdbench.data.store.decoding import readable_endings


def test_all_endings_of_the_formats_that_are_read_are_known():
    jpeg, tiff = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}, {".tif", ".tiff"}
    jpeg2000 = {".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"}
    others = {".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"}
    assert jpeg | tiff | jpeg2000 | others <= readable_endings()
    assert not {".pdf", ".txt", ".npz", ".mpg"} & readable_endings()
