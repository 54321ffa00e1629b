"""One function decodes for checks and for training: what it makes of unusual files, and what it refuses."""

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform

from nas.errors import DataError
from nas.training.data.decode import Levels, Recipe, decode, levels_of, picture

WHOLE, EXACT = Recipe(kind="whole", size=14), Recipe(kind="exact", size=16)
RANDOM = np.random.default_rng(0)


def noise(width, height):
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(("size", "shape"), [(16, (40, 27)), (16, (20, 33)), (96, (96, 96)), (224, (300, 231))])
def test_exact_is_what_timms_evaluation_transform_gives(tmp_path, size, shape):
    noise(*shape).save(tmp_path / "a.png")
    transform = create_transform((3, size, size), crop_pct=1.0 if size < 128 else 0.875, use_prefetcher=True)
    expected = transform(picture(tmp_path / "a.png", "RGB"))
    found = decode(tmp_path / "a.png", "RGB", Recipe(kind="exact", size=size))
    np.testing.assert_array_equal(found.bytes, np.asarray(expected))


def test_whole_is_all_of_it_and_its_aspect(tmp_path):
    noise(60, 30).save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", "L", WHOLE)
    assert (found.bytes.shape, found.aspect) == ((1, 16, 16), 2.0)


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 2)])
def test_extreme_shapes_take_little_memory(tmp_path, shape):
    noise(*shape).save(tmp_path / "a.png")
    for recipe in (WHOLE, Recipe(kind="exact", size=224)):
        found = decode(tmp_path / "a.png", "RGB", recipe)
        assert found.bytes.shape == (3, recipe.side, recipe.side)
    assert found.aspect == shape[0] / shape[1]


def test_large_jpegs_are_decoded_at_a_fraction(tmp_path, monkeypatch):
    smooth = Image.fromarray(np.linspace(0, 255, 1600, dtype=np.uint8)[None].repeat(1200, 0))
    smooth.save(tmp_path / "a.jpg")
    sizes = []
    load = Image.Image.copy
    monkeypatch.setattr(Image.Image, "copy", lambda image: sizes.append(image.size) or load(image))
    found = decode(tmp_path / "a.jpg", "L", EXACT)
    assert set(sizes) == {(200, 150)}
    smooth.save(tmp_path / "a.png")
    difference = found.bytes.astype(int) - decode(tmp_path / "a.png", "L", EXACT).bytes
    assert abs(difference).max() <= 6


def test_exif_turns_and_damaged_exif_does_not(tmp_path):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert np.asarray(picture(tmp_path / "a.png", "L")).tolist() == np.rot90(np.asarray(image), -1).tolist()
    for content in (b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        image.save(tmp_path / "b.png", exif=content)
        assert np.asarray(picture(tmp_path / "b.png", "L")).tolist() == np.asarray(image).tolist()


def test_modes_are_seen_as_a_viewer_shows_them(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png")
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (10, 20, 30, 255)).save(tmp_path / "opaque.png")
    Image.new("CMYK", (4, 4), (0, 0, 0, 255)).save(tmp_path / "cmyk.tif")
    for name, expected in (("p.png", (10, 20, 30)), ("clear.png", (255,) * 3), ("opaque.png", (10, 20, 30))):
        assert picture(tmp_path / name, "RGB").getpixel((0, 0)) == expected
    for mode in ("L", "RGB"):
        assert not np.asarray(picture(tmp_path / "cmyk.tif", mode)).any()


@pytest.mark.parametrize(("largest", "given", "seen"), [(65535, 0x1234, 0x12), (4095, 0x123, 0x12), (200, 123, 123)])
def test_bits_are_those_of_the_set(tmp_path, largest, given, seen):
    for name, value in (("low", given), ("high", largest)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / f"{name}.png")
    levels = levels_of([tmp_path / "low.png", tmp_path / "high.png"])
    assert levels == Levels(largest=largest)
    assert picture(tmp_path / "low.png", "L", levels).getpixel((0, 0)) == seen


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_are_scaled_by_the_range_of_the_set(tmp_path, kind):
    files = []
    for name, values in (("a", [-10, 0]), ("b", [30, 40])):
        files.append(tmp_path / f"{name}.tif")
        Image.fromarray(np.asarray([values], kind)).save(files[-1])
    levels = levels_of(files)
    assert np.asarray(picture(files[0], "L", levels)).tolist() == [[0, 51]]
    assert np.asarray(picture(files[1], "L", levels)).tolist() == [[204, 255]]


def test_what_becomes_one_colour_is_refused(tmp_path):
    for name, values in (("dim", [0.0, 0.001]), ("bright", [0.0, 1000.0]), ("flat", [1.0, 1.0])):
        Image.fromarray(np.asarray([values], np.float32)).save(tmp_path / f"{name}.tif")
    levels = levels_of(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"dim\.tif: its values from 0 to 0\.001 become one"):
        decode(tmp_path / "dim.tif", "L", EXACT, levels)
    decode(tmp_path / "flat.tif", "L", EXACT, levels)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    Image.fromarray(np.asarray([[1.0, value]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: holds values that are not finite$"):
        decode(tmp_path / "a.tif", "L", EXACT, levels_of([tmp_path / "a.tif"]))


def broken(tmp_path, kind):
    file = tmp_path / "a.png"
    noise(30, 30).save(file)
    content = file.read_bytes()
    if kind == "cut off":
        file.write_bytes(content[:-400])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "text":
        file.write_bytes(b"no image")
    elif kind == "0x0":
        file.write_bytes(b"P5 0 0 255\n")
    elif kind == "gone":
        file.unlink()
    elif kind == "bomb":
        Image.MAX_IMAGE_PIXELS = 100  # the test puts it back
    return file


@pytest.mark.parametrize("kind", ["cut off", "empty", "text", "0x0", "gone", "bomb"])
def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    with pytest.raises(DataError, match=r"a\.png: not a readable image: \S[^\n]*$"):
        decode(broken(tmp_path, kind), "RGB", EXACT)
