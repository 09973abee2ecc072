"""Parquet as the Hugging Face Hub has it: read as it is meant, and refused by name where it is not so."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from abcore.data.dataset import load_dataset
from abcore.ingest import parquet
from abcore.ingest.images import decode

CLASS_LABEL = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
}


def _written(table: pa.Table, **options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content, **options)
    return content.getvalue()


def _table(forge: Any, count: int = 8, start: int = 0, features: Any = CLASS_LABEL) -> pa.Table:
    """As `datasets.Dataset.to_parquet` writes it."""
    numbers = range(start, start + count)
    images = [{"bytes": forge.png(i), "path": f"{i}.png"} for i in numbers]
    table = pa.table({"image": images, "label": pa.array([i % 2 for i in numbers], pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def test_a_file_of_the_hub_comes_back_with_its_names(forge: Any, room: Any) -> None:
    report = room.accept_dataset(_written(_table(forge, 20), row_group_size=3), holdout_fraction=0.2)
    assert (report.format, report.classes) == ("parquet", ("cat", "dog"))
    assert {name: split.num_images for name, split in report.splits.items()} == {"train": 16, "test": 4}
    splits = load_dataset(room.outputs / "dataset.safetensors").splits
    found = {
        (image.numpy().tobytes(), int(label))
        for split in splits.values()
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert found == {(decode(forge.png(i)).tobytes(), i % 2) for i in range(20)}


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_each_compression_is_read(forge: Any, room: Any, compression: str) -> None:
    assert room.accept_dataset(_written(_table(forge), compression=compression)).format == "parquet"


def test_shards_in_an_archive_are_joined_by_split(forge: Any, room: Any) -> None:
    files = {
        "README.md": b"---",
        "data/train-00000-of-00002.parquet": _written(_table(forge, 4)),
        "data/train-00001-of-00002.parquet": _written(_table(forge, 4, 4)),
        "data/validation-00000-of-00001.parquet": _written(_table(forge, 2, 8)),
        "test/0000.parquet": _written(_table(forge, 2, 10)),
    }
    report = room.accept_dataset(forge.tar(files))
    assert {name: split.num_images for name, split in report.splits.items()} == {
        "train": 8,
        "val": 2,
        "test": 2,
    }
    assert report.classes == ("cat", "dog")


def test_columns_are_known_by_their_names_where_nothing_says_more(forge: Any, room: Any) -> None:
    table = pa.table(
        {
            "other": [[1, 2]] * 4,
            "img": pa.array([forge.png(i) for i in range(4)], pa.large_binary()),
            "fine_label": ["owl", "ant", "owl", "ant"],
        }
    )
    report = room.accept_dataset(_written(table), holdout_fraction=0.5)
    assert report.classes == ("ant", "owl")


def _renamed(forge: Any, *names: str) -> bytes:
    return _written(_table(forge, features={}).rename_columns(names))


def _columns(images: Any, labels: Any) -> Any:
    """A file of two columns; a number stands for an image of its own."""
    return lambda forge: _written(
        pa.table({"image": [forge.png(x) if isinstance(x, int) else x for x in images], "label": labels})
    )


def _names(*names: Any) -> Any:
    features = CLASS_LABEL | {"label": {"names": names, "_type": "ClassLabel"}}
    return lambda forge: _written(_table(forge, features=features))


def _path_alone(forge: Any) -> bytes:
    images = [{"bytes": forge.png(1), "path": ""}, {"bytes": None, "path": "/etc/passwd"}]
    return _written(pa.table({"image": images, "label": [0, 1]}))


def _unfolding(_: Any) -> bytes:
    table = pa.table({"image": [bytes(50 * 2**20)], "label": [0]})
    return _written(table, compression="zstd", use_dictionary=False)


def _one_image_for_all(forge: Any) -> bytes:
    """A dictionary says it once; decoded for all rows at once it would be large."""
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), [forge.png(0)])
    return _written(pa.table({"image": dictionary.cast(pa.binary()), "label": [0, 1] * 50_000}))


BAD: dict[str, tuple[Any, str]] = {
    "cut off": (lambda forge: _written(_table(forge))[:-9], "parquet.damaged"),
    "magic alone": (lambda _: b"PAR1", "parquet.damaged"),
    "a footer of 2 GB": (
        lambda forge: _written(_table(forge))[:-8] + b"\xff\xff\xff\x7fPAR1",
        "parquet.damaged",
    ),
    "encrypted": (lambda forge: _written(_table(forge))[:-4] + b"PARE", "parquet.damaged"),
    "no image column": (lambda forge: _renamed(forge, "x", "label"), "parquet.columns"),
    "no label column": (lambda forge: _renamed(forge, "image", "x"), "parquet.columns"),
    "two columns of one name": (lambda forge: _renamed(forge, "image", "image"), "parquet.columns"),
    "2000 columns": (lambda _: _written(pa.table({f"c{i}": [1] for i in range(2000)})), "parquet.columns"),
    "images that are lists": (_columns([[1, 2]], [0]), "parquet.columns"),
    "images that are URLs": (_columns(["http://x/y"], [0]), "parquet.columns"),
    "labels that are fractions": (_columns([0], [0.5]), "parquet.columns"),
    "an image that is only a path": (_path_alone, "dataset.broken_images"),
    "a broken image": (_columns([0, b"x"], [0, 1]), "dataset.broken_images"),
    "a label that is null": (_columns([0, 1], [0, None]), "parquet.no_label"),
    "a label of -1": (_columns([0, 1], [0, -1]), "dataset.labels"),
    "a label beyond its names": (
        lambda forge: _written(_table(forge).set_column(1, "label", pa.array([5] * 8))),
        "dataset.labels",
    ),
    "class names that are numbers": (_names(1, 2), "parquet.class_names"),
    "class names twice": (_names("cat", "cat"), "parquet.class_names"),
    "a class name that upsets a terminal": (_names("a", "\x1b[2J"), "archive.unreadable_name"),
    "no row": (lambda forge: _written(_table(forge)[:0]), "dataset.empty"),
    "shards of other classes": (
        lambda forge: forge.tar({f"{i}.parquet": _names(f"{i}", "dog")(forge) for i in range(2)}),
        "parquet.classes_differ",
    ),
    "images that unfold": (_unfolding, "parquet.bomb"),
    "one image for 100,000 rows": (_one_image_for_all, "dataset.too_large"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_refused_by_name(forge: Any, room: Any, case: str) -> None:
    make, code = BAD[case]
    assert room.refuse_dataset(make(forge), max_bytes=20_000).code == code


def test_metadata_that_is_nonsense_is_passed_over(forge: Any, room: Any) -> None:
    table = _table(forge).replace_schema_metadata({"huggingface": "[" * 50_000})
    assert room.accept_dataset(_written(table)).classes == ("0", "1")


def test_limits_are_exact(forge: Any, room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_ROWS", 8)
    room.accept_dataset(_written(_table(forge, 8)))
    room = type(room)(room.path.parent / "more")
    assert room.refuse_dataset(_written(_table(forge, 9))).code == "parquet.too_many_rows"
