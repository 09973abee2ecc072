"""Archives made to harm, and honest mistakes: each is refused, says where, and leaves nothing behind."""

import struct
from typing import Any

import pytest
from PIL import Image

from abcore.ingest import archives, images

PACKINGS = ["zip", "tar", "tar_gz"]


@pytest.mark.parametrize("packing", PACKINGS)
def test_too_many_files_are_refused(
    forge: Any, room: Any, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = forge.folder(train=4, test=2)
    upload = getattr(forge, packing)(files)
    monkeypatch.setattr(archives, "MOST_MEMBERS", len(files) - 1)
    assert room.refuse_dataset(upload).code == "archive.too_many_members"


@pytest.mark.parametrize("packing", PACKINGS)
def test_exactly_as_many_files_as_allowed_are_accepted(
    forge: Any, room: Any, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = forge.folder(train=4, test=2)
    monkeypatch.setattr(archives, "MOST_MEMBERS", len(files))
    room.accept_dataset(getattr(forge, packing)(files))


def test_a_member_whose_checksum_is_wrong_is_refused(forge: Any, room: Any) -> None:
    body = forge.png(0)
    upload = forge.zip(forge.folder()).replace(body, body[:-20] + b"?" + body[-19:], 1)
    problem = room.refuse_dataset(upload)
    assert problem.code == "archive.damaged"
    assert "CRC" in problem.message


def test_broken_images_are_counted_and_the_first_ones_named(forge: Any, room: Any) -> None:
    files = forge.folder(train=20)
    for i in range(15):
        files[f"train/cat/{i}.png"] = files[f"train/cat/{i}.png"][: 40 if i else 0]
    files["train/cat/a b.png"] = b"\x89PNG\r\n\x1a\n"
    problem = room.refuse_dataset(forge.tar_gz(files))
    assert problem.code == "dataset.broken_images"
    assert problem.message.startswith(
        "16 images cannot be decoded; the first one, train/cat/0.png, is in none of"
    )
    assert problem.where == "archive:train/cat/0.png"
    assert len(problem.value) == 10


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_not_guessed_at(forge: Any, room: Any, mode: str) -> None:
    body = forge.image(Image.new(mode, (8, 8), 70_000), "TIFF")
    problem = room.refuse_dataset(forge.zip({**forge.folder(), "train/dog/deep.tif": body}))
    assert f"mode {mode}" in problem.message


def test_a_pixel_bomb_is_refused_before_it_is_decoded(forge: Any, room: Any) -> None:
    header = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    body = header + _chunk(b"IDAT", b"x") + _chunk(b"IEND", b"")
    problem = room.refuse_dataset(forge.zip({**forge.folder(), "train/dog/huge.png": body}))
    assert "60000x60000 pixels" in problem.message


def _chunk(kind: bytes, body: bytes) -> bytes:
    import zlib

    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_the_limit_of_pixels_is_exact(forge: Any, room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_PIXELS", 64)
    room.accept_dataset(forge.zip(forge.folder()))
    room = type(room)(room.path.parent / "larger")
    problem = room.refuse_dataset(forge.zip(forge.folder(size=(13, 5))))
    assert "has 13x5 pixels; accepted are 1 to 64" in problem.message


def test_a_file_too_large_for_an_image_is_not_read(
    forge: Any, room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from abcore.ingest import imagefolder

    monkeypatch.setattr(imagefolder, "MOST_FILE_BYTES", 100_000)
    problem = room.refuse_dataset(forge.zip({**forge.folder(), "train/cat/9.png": b"x" * 100_001}))
    assert "has 100,001 bytes; at most 100,000" in problem.message


def test_sizes_that_differ_are_listed_with_the_way_out(forge: Any, room: Any) -> None:
    files = forge.folder() | {
        "train/cat/w.png": forge.png(9, (9, 8)),
        "train/cat/v.png": forge.png(8, (9, 8)),
    }
    problem = room.refuse_dataset(forge.zip(files))
    assert (problem.code, problem.where) == ("dataset.mixed_sizes", "image_size")
    assert "2 different sizes: 8x8 (12), 9x8 (2)" in problem.message


@pytest.mark.parametrize("packing", PACKINGS)
def test_more_pixels_than_accepted_are_refused(forge: Any, room: Any, packing: str) -> None:
    upload = getattr(forge, packing)(forge.folder())
    assert room.refuse_dataset(upload, max_bytes=12 * 64 - 1).code == "dataset.too_large"
    room = type(room)(room.path.parent / "exact")
    room.accept_dataset(upload, max_bytes=12 * 64)


def test_too_many_classes_are_refused(forge: Any, room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from abcore.ingest import labelling

    monkeypatch.setattr(labelling, "MOST_CLASSES", 1)
    assert room.refuse_dataset(forge.zip(forge.folder())).code == "dataset.too_many_classes"
