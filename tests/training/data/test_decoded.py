"""Decoded once for all: who decodes, what is kept, what happens to damage, to a full disk and to a killed process."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import DataError, NasError
from nas.training.config import DataConfig
from nas.training.data import decoded, decoding, folder_data, open_data, places
from nas.training.data.arrays import ArrayData
from nas.training.data.decode import Recipe, decode
from nas.training.data.images import ImageData

CPU = torch.device("cpu")


def config(root, **more):
    return DataConfig(source=f"folder:{root}", image_size=16, **more)


@pytest.fixture
def chunks(monkeypatch):
    """The chunks that this process decodes."""
    seen = []
    real = decoding.decode_chunk
    monkeypatch.setattr(decoding, "decode_chunk", lambda chunk: seen.append(chunk) or real(chunk))
    return seen


def num_decoded(chunks):
    return sum(len(chunk.files) for chunk in chunks)


def images(data):
    pairs = list(data.val_batches(batch_size=8, on=CPU))
    return torch.cat([x for x, _ in pairs])


def test_every_part_is_decoded_once(image_folder, chunks):
    first = open_data(config(image_folder, in_chans=1))
    assert isinstance(first, ArrayData)
    assert num_decoded(chunks) == 60
    second = open_data(config(image_folder, in_chans=1))
    assert num_decoded(chunks) == 60
    assert torch.equal(images(first), images(second))
    assert first.fingerprint == second.fingerprint
    assert sum(len(y) for _, y in second.test_batches(batch_size=8, on=CPU)) == 12


def test_what_is_kept_is_what_the_recipes_say(image_folder):
    data = open_data(config(image_folder))
    train, val = (data._read(part) for part in ("train", "val"))
    assert (train.images.shape, val.images.shape) == ((36, 3, 18, 18), (12, 3, 16, 16))
    assert train.aspects.tolist() == [1.0] * 36
    assert val.aspects is None
    for part, recipe in ((train, Recipe(kind="whole", size=16)), (val, Recipe(kind="exact", size=16))):
        expected = decode(part.names[5], "RGB", recipe).bytes
        np.testing.assert_array_equal(part.images[5], expected)
    mean, deviation = train.moments
    np.testing.assert_allclose(mean, train.images.mean((0, 2, 3)))
    np.testing.assert_allclose(deviation, train.images.std((0, 2, 3), ddof=1))
    assert open_data(config(image_folder, augment=False))._read("train").images.shape[2:] == (16, 16)


def test_images_have_their_files_names(image_folder):
    batches = open_data(config(image_folder)).train_batches(batch_size=16, seed=0, on=CPU)
    labels = [y for _, y in batches]
    name = batches.origin(1, 2)
    assert name.startswith(f"{image_folder}/")
    assert ("one", "two", "zero")[labels[1][2]] in name


def test_a_changed_file_is_noticed(image_folder, chunks):
    before = open_data(config(image_folder))
    file = before._read("val").names[0]
    Image.new("L", (40, 40)).save(file)
    after = open_data(config(image_folder))
    assert after.fingerprint != before.fingerprint
    assert [len(chunk.files) for chunk in chunks] == [36, 12, 12, 12], "one part is decoded anew"
    open_data(config(image_folder))
    assert len(chunks) == 4


def test_all_broken_files_are_told_at_once(image_folder):
    files = [file for number, file in enumerate(sorted(image_folder.glob("*/*"))) if number % 3]
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(DataError) as error:
        open_data(config(image_folder, val_fraction=0.1, test_fraction=0.1))
    (line,) = str(error.value).splitlines()
    assert line.startswith("40 images cannot be used; repair them, or append .broken to their names: ")
    assert line.count("not a readable image") == 10
    assert line.endswith("; and 30 more")
    with pytest.raises(DataError, match=r"^40 images cannot be used"):
        open_data(config(image_folder, cache="off"))
    for file in files:
        file.rename(f"{file}.broken")
    assert open_data(config(image_folder)).summary.notes == ("left out: 40 broken images",)


def test_a_broken_test_image_is_told_before_the_first_run(image_folder):
    name = open_data(config(image_folder))._read("test").names[0]
    os.truncate(name, 50)
    with pytest.raises(DataError, match=name):
        open_data(config(image_folder))


def kept_folders(cache):
    return [path for path in (cache / "decoded").iterdir() if path.is_dir()]


@pytest.mark.parametrize("damage", ["shorter", "overwritten", "no about", "foreign"])
def test_a_damaged_cache_is_made_anew(image_folder, cache, chunks, damage):
    before = images(open_data(config(image_folder)))
    for folder in kept_folders(cache):
        file = folder / "images.npy"
        if damage == "shorter":
            os.truncate(file, file.stat().st_size - 10)
        elif damage == "overwritten":
            time.sleep(0.02)
            with file.open("r+b") as stream:
                stream.seek(500)
                stream.write(b"\0" * 500)
        elif damage == "no about":
            (folder / "about.json").unlink()
        else:
            file.write_bytes(b"something else")
    said = []
    assert torch.equal(images(open_data(config(image_folder), said.append)), before)
    assert num_decoded(chunks) == 120
    assert len(said) == 3
    assert all("damaged; its images are decoded anew" in line for line in said)


def test_a_full_disk_is_told_and_the_work_goes_on_afterwards(image_folder, chunks, monkeypatch):
    monkeypatch.setattr(decoded, "CHUNK", 16)
    real, writes = decoding._write, []

    def write(path, offset, content):
        writes.append(path)
        if len(writes) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, offset, content)

    monkeypatch.setattr(decoding, "_write", write)
    with pytest.raises(NasError, match=r"the disk is full, decoded images need .* which goes on") as error:
        open_data(config(image_folder))
    assert error.value.exit_code == 1
    monkeypatch.setattr(decoding, "_write", real)
    chunks.clear()
    open_data(config(image_folder))
    assert num_decoded(chunks) == 60 - 16


def test_without_room_images_are_decoded_when_they_are_used(image_folder, monkeypatch, cache):
    monkeypatch.setattr(folder_data, "MARGIN", 2**60)
    said = []
    data = open_data(config(image_folder), said.append)
    assert isinstance(data, ImageData)
    assert len(said) == 1
    assert "decoded images need 0.0 GB" in said[0]
    monkeypatch.undo()
    kept = open_data(config(image_folder, cache=str(cache / "other")))
    assert data.fingerprint == kept.fingerprint


def test_no_cache_is_the_same_pixels_and_the_same_checks(image_folder, cache, chunks):
    off = open_data(config(image_folder, cache="off"))
    assert isinstance(off, ImageData)
    assert num_decoded(chunks) == 60
    open_data(config(image_folder, cache="off"))
    assert num_decoded(chunks) == 60
    assert not (cache / "decoded").exists()
    kept = open_data(config(image_folder))
    raw = images(kept) / kept._scale[:, None, None] + kept._mean[:, None, None]
    mean, std = (torch.tensor(values)[:, None, None] for values in (off._mean, off._std))
    torch.testing.assert_close(images(off) * std + mean, raw / 255, atol=1e-5, rtol=0)
    file = sorted((image_folder / "one").iterdir())[0]
    file.write_bytes(b"")
    with pytest.raises(DataError, match=str(file)):
        open_data(config(image_folder, cache="off"))


def opening(root, barrier, counts):
    seen = []
    real = decoding.decode_chunk
    decoding.decode_chunk = lambda chunk: seen.append(chunk) or real(chunk)
    barrier.wait()
    open_data(config(root))
    counts.put(num_decoded(seen))


def test_processes_that_open_at_once_decode_once(image_folder):
    context = multiprocessing.get_context("fork")
    barrier, counts = context.Barrier(4), context.SimpleQueue()
    processes = [context.Process(target=opening, args=(image_folder, barrier, counts)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sum(counts.get() for _ in processes) == 60


def killed_midway(root):
    decoded.CHUNK = 16
    real, seen = decoding.decode_chunk, []

    def decode_chunk(chunk):
        seen.append(chunk)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(chunk)

    decoding.decode_chunk = decode_chunk
    open_data(config(root))


def test_a_killed_decoding_goes_on(image_folder, chunks, monkeypatch):
    process = multiprocessing.get_context("fork").Process(target=killed_midway, args=(image_folder,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.setattr(decoded, "CHUNK", 16)
    data = open_data(config(image_folder))
    assert num_decoded(chunks) == 60 - 32
    train = data._read("train")
    np.testing.assert_allclose(train.moments[0], train.images.mean((0, 2, 3)))
    for position in (0, 35):
        expected = decode(train.names[position], "RGB", Recipe(kind="whole", size=16)).bytes
        np.testing.assert_array_equal(train.images[position], expected)


def test_several_processes_decode_what_one_does(image_folder, monkeypatch, cache):
    before = images(open_data(config(image_folder)))
    places.remove_decoded()
    assert not (cache / "decoded").exists()
    monkeypatch.setattr(decoding, "ALONE", 10)
    assert torch.equal(images(open_data(config(image_folder))), before)
    sorted(image_folder.glob("*/*"))[0].write_bytes(b"")
    with pytest.raises(DataError, match="not a readable image"):
        open_data(config(image_folder))


def test_the_cache_can_be_removed(image_folder, cache):
    open_data(config(image_folder))
    (removed,) = places.remove_decoded()
    assert removed.place == cache / "decoded"
    assert removed.num_bytes >= 36 * 3 * 18 * 18 + 24 * 3 * 16 * 16
    assert not (cache / "decoded").exists()
    assert places.remove_decoded()[0].num_bytes == 0


def test_what_a_study_file_placed_is_removed_and_nothing_beside_it(image_folder, tmp_path):
    mixed, own = tmp_path / "mixed", tmp_path / "own"
    mixed.mkdir()
    (mixed / "thesis.tex").write_text("years of work")
    for place in (mixed, own, own):
        open_data(config(image_folder, cache=str(place)))
    assert len(list(mixed.iterdir())) > 4
    _, *removed = places.remove_decoded()
    assert sorted((one.place.name, one.num_bytes > 50_000) for one in removed) == [("mixed", True), ("own", True)]
    assert [path.name for path in mixed.iterdir()] == ["thesis.tex"]
    assert not own.exists()
    assert len(places.remove_decoded()) == 1, "they are forgotten"
    own.mkdir()
    open_data(config(image_folder, cache=str(own)))
    assert [one.place for one in places.remove_decoded()[1:]] == [own]


def test_a_cache_folder_that_takes_no_notes_is_told(image_folder, tmp_path, cache):
    cache.write_text("a file in its place")
    said = []
    open_data(config(image_folder, cache=str(tmp_path / "own")), said.append)
    (line,) = said
    assert (
        line == f"{cache}/places: cannot be written (Not a directory): nas delete --cache will not find {tmp_path}/own"
    )


def test_names_that_are_not_utf8_can_be_opened_and_told(image_folder):
    name = os.fsdecode(b"\xff")
    (image_folder / "one").rename(image_folder / name)
    data = open_data(config(image_folder))
    assert data.summary.class_names == ("two", "zero", "\\xff")
    assert all(text.encode() for text in data._read("train").names)
    next((image_folder / name).iterdir()).write_bytes(b"")
    with pytest.raises(DataError, match=r"\\xff/.*not a readable image") as error:
        open_data(config(image_folder))
    assert str(error.value).encode()


def test_what_decodes_needs_no_torch():
    code = "import sys, nas.training.data.decoding, nas.training.data.folder; print({'torch', 'timm'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


SCRIPT = """
from nas.training.config import DataConfig
from nas.training.data import decoding, open_data

decoding.ALONE = 10
print(open_data(DataConfig(source="folder:{root}", image_size=16)).summary.num_train)
"""


def test_a_script_may_open_data_as_it_is_imported(image_folder, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(root=image_folder))
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "36\n"
