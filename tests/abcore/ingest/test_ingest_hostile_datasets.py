"""Archives made to harm, and honest mistakes: each is refused, says where, and leaves nothing behind."""

import gzip
import io
import stat
import struct
import tarfile
import warnings
import zipfile
from typing import Any

import pytest
from PIL import Image

from abcore.ingest import archives, images

PACKINGS = ["zip", "tar", "tar_gz"]
OUTSIDE = ["/etc/x.png", "../x.png", "train/../../x.png", "..\\x.png", "C:/x.png", "\\\\server\\x.png"]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_out_of_the_archive_is_refused(forge: Any, room: Any, packing: str, name: str) -> None:
    problem = room.refuse_dataset(getattr(forge, packing)({**forge.folder(), name: forge.png()}))
    assert (problem.code, problem.value) == ("archive.unsafe_path", name)
    assert not list(room.path.parent.glob("*.png"))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symbolic link", "hard link", "character device", "block device", "pipe"],
)
@pytest.mark.parametrize("name", ["train/cat/link.png", ".hidden"])
def test_links_and_devices_of_a_tar_are_refused(forge: Any, room: Any, kind: bytes, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    problem = room.refuse_dataset(forge.tar(forge.folder(), info))
    assert (problem.code, problem.where) == ("archive.special_file", f"archive:{name}")


def test_a_symbolic_link_of_a_zip_is_refused(forge: Any, room: Any) -> None:
    info = zipfile.ZipInfo("train/cat/link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    problem = room.refuse_dataset(_zip_with(forge, info, b"/etc/passwd"))
    assert (problem.code, problem.where) == ("archive.special_file", "archive:train/cat/link.png")


def _zip_with(forge: Any, info: zipfile.ZipInfo, body: bytes) -> bytes:
    content = io.BytesIO(forge.zip(forge.folder()))
    with zipfile.ZipFile(content, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of duplicates, which are what some tests want
        archive.writestr(info, body)
    return content.getvalue()


@pytest.mark.parametrize("packing", PACKINGS)
def test_two_files_of_one_name_are_refused(forge: Any, room: Any, packing: str) -> None:
    name = "train/cat/0.png"
    if packing == "zip":
        upload = _zip_with(forge, zipfile.ZipInfo(name), forge.png())
    else:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for path, body in [*forge.folder().items(), (name, forge.png())]:
                info = tarfile.TarInfo(path)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
        upload = content.getvalue() if packing == "tar" else gzip.compress(content.getvalue())
    assert room.refuse_dataset(upload).code == "archive.duplicate"


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


def test_a_member_that_unfolds_a_thousandfold_is_refused(forge: Any, room: Any) -> None:
    bomb = forge.zip({"train/cat/0.png": bytes(30 * 2**20)}, zipfile.ZIP_DEFLATED)
    problem = room.refuse_dataset(bomb)
    assert (problem.code, problem.where) == ("archive.bomb", "archive:train/cat/0.png")


def test_a_tar_that_unfolds_a_thousandfold_is_refused(forge: Any, room: Any) -> None:
    assert room.refuse_dataset(forge.tar_gz({"train/cat/0.png": bytes(30 * 2**20)})).code == "archive.bomb"


def test_a_bomb_in_what_is_no_member_is_refused(forge: Any, room: Any) -> None:
    """Bytes behind the end of the archive, which tar programs skip."""
    upload = gzip.compress(forge.tar(forge.folder()) + bytes(60 * 2**20))
    assert room.refuse_dataset(upload).code == "archive.bomb"


def test_entries_of_a_zip_that_overlap_are_refused(forge: Any, room: Any) -> None:
    """Many directory entries over the same bytes: small files, huge sums."""
    upload = bytearray(forge.zip({"train/cat/0.png": bytes(4000), "train/cat/1.png": b"x"}))
    at = upload.rindex(b"PK\x01\x02")
    struct.pack_into("<II", upload, at + 20, 4000, 4000)
    struct.pack_into("<I", upload, at + 42, 0)
    assert room.refuse_dataset(bytes(upload)).code == "archive.damaged"


def test_an_encrypted_zip_is_refused_as_such(forge: Any, room: Any) -> None:
    upload = bytearray(forge.zip(forge.folder()))
    at = upload.index(b"PK\x01\x02")
    upload[at + 8] |= 1
    assert room.refuse_dataset(bytes(upload)).code == "archive.encrypted"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_of_a_zip_are_refused_as_such(forge: Any, room: Any, method: int) -> None:
    problem = room.refuse_dataset(forge.zip(forge.folder(), method))
    assert (problem.code, problem.allowed) == ("archive.compression", ("stored", "deflated"))


def test_a_member_whose_checksum_is_wrong_is_refused(forge: Any, room: Any) -> None:
    body = forge.png(0)
    upload = forge.zip(forge.folder()).replace(body, body[:-20] + b"?" + body[-19:], 1)
    problem = room.refuse_dataset(upload)
    assert problem.code == "archive.damaged"
    assert "CRC" in problem.message


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kept", [0.001, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(forge: Any, room: Any, packing: str, kept: float) -> None:
    upload = getattr(forge, packing)(forge.folder()).rstrip(b"\0")  # a tar's padding may be cut
    problem = room.refuse_dataset(upload[: int(len(upload) * kept)])
    assert problem.code in ("archive.damaged", "dataset.unknown_format")


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_tar_cut_between_two_members_is_not_taken_for_a_whole_one(
    forge: Any, room: Any, gzipped: bool
) -> None:
    members = forge.folder(train=9, test=2)
    whole = forge.tar(dict(sorted(members.items(), reverse=True)))
    cut = whole[: 20 * 1024]
    assert cut[-1024:] != bytes(1024)
    problem = room.refuse_dataset(gzip.compress(cut) if gzipped else cut)
    assert (problem.code, "cut off" in problem.message) == ("archive.damaged", True)


def test_a_gzip_without_its_checksum_is_refused(forge: Any, room: Any) -> None:
    assert room.refuse_dataset(forge.tar_gz(forge.folder())[:-8]).code == "archive.damaged"


def test_a_gzip_of_other_bytes_than_its_checksum_says_is_refused(forge: Any, room: Any) -> None:
    upload = bytearray(forge.tar_gz(forge.folder()))
    upload[-8] ^= 1
    assert room.refuse_dataset(bytes(upload)).code == "archive.damaged"


def test_a_name_that_is_not_utf8_is_refused(forge: Any, room: Any) -> None:
    problem = room.refuse_dataset(forge.tar({**forge.folder(), "train/\udcff/0.png": forge.png()}))
    assert (problem.code, problem.value) == ("archive.unreadable_name", "train/\\udcff/0.png")
    upload = forge.zip({**forge.folder(), "train/é/0.png": forge.png()}).replace("é".encode(), b"\xff\xfe")
    room = type(room)(room.path.parent / "zip")
    assert room.refuse_dataset(upload).code == "archive.damaged"


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", ["\x1b[2Jcat", "cat\ndog", "c" * 2000])
def test_a_name_that_would_upset_a_terminal_is_refused(
    forge: Any, room: Any, packing: str, name: str
) -> None:
    upload = getattr(forge, packing)({**forge.folder(), f"train/{name}/0.png": forge.png()})
    assert room.refuse_dataset(upload).code == "archive.unreadable_name"


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


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"BM" + bytes(50),
        b"II*\x00" + bytes(20),
        b"P5 0 8 255\n",
    ],
    ids=["empty", "text", "jpeg", "gif", "bmp", "tiff", "no pixel"],
)
def test_what_only_pretends_to_be_an_image_is_named(forge: Any, room: Any, body: bytes) -> None:
    problem = room.refuse_dataset(forge.zip({**forge.folder(), "train/dog/bad.png": body}))
    assert (problem.code, problem.where) == ("dataset.broken_images", "archive:train/dog/bad.png")


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


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, "dataset.empty"),
        ({"README.md": b"hello"}, "dataset.no_class_folders"),
        ({"cat/0.png": None, "dog/0.png": None}, "dataset.no_class_folders"),
        ({"train/0.png": None}, "dataset.no_class_folders"),
        ({"train/cat/0.png": None, "train/cat/1.png": None}, "dataset.one_class"),
        ({"test/cat/0.png": None, "test/dog/1.png": None}, "dataset.no_train"),
        ({"train/cat/0.png": None, "train/dog/1.png": None}, "dataset.empty_split"),
        (
            {"train/cat/0.png": None, "train/dog/1.png": None, "val/dog/2.png": None, "val/cow/3.png": None},
            "dataset.class_without_training_images",
        ),
    ],
)
def test_an_archive_that_is_no_dataset_is_refused(forge: Any, room: Any, files: Any, code: str) -> None:
    named = {name: forge.png(n) if body is None else body for n, (name, body) in enumerate(files.items())}
    assert room.refuse_dataset(forge.zip(named)).code == code


@pytest.mark.parametrize("size", [(3, 3), (1025, 8)])
def test_images_too_small_or_too_large_are_refused(forge: Any, room: Any, size: tuple[int, int]) -> None:
    problem = room.refuse_dataset(forge.zip(forge.folder(train=1, test=1, size=size)))
    assert (problem.code, problem.value) == ("dataset.image_size", list(size))


def test_too_many_classes_are_refused(forge: Any, room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from abcore.ingest import labelling

    monkeypatch.setattr(labelling, "MOST_CLASSES", 1)
    assert room.refuse_dataset(forge.zip(forge.folder())).code == "dataset.too_many_classes"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"\x80\x04}.",
        b"BZh91AY&SY" + bytes(99),
    ],
    ids=["empty", "text", "png", "pickle", "bzip2"],
)
def test_another_kind_of_file_is_refused_with_what_it_looks_like(room: Any, content: bytes) -> None:
    problem = room.refuse_dataset(content)
    assert problem.code == "dataset.unknown_format"
    assert "it looks like" in problem.message
