"""Parquet as the Hugging Face Hub has it: read as it is meant, and refused by name where it is not so."""

from typing import Any

import pyarrow as pa
import pytest
from hostile.corpus.tables import hub_table, written

from abcore.data.dataset import load_dataset
from abcore.ingest import parquet
from abcore.ingest.images import decode


def test_a_file_of_the_hub_comes_back_with_its_names(forge: Any, room: Any) -> None:
    report = room.accept_dataset(written(hub_table(forge, 20), row_group_size=3), holdout_fraction=0.2)
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
    assert room.accept_dataset(written(hub_table(forge), compression=compression)).format == "parquet"


def test_shards_in_an_archive_are_joined_by_split(forge: Any, room: Any) -> None:
    files = {
        "README.md": b"---",
        "data/train-00000-of-00002.parquet": written(hub_table(forge, 4)),
        "data/train-00001-of-00002.parquet": written(hub_table(forge, 4, 4)),
        "data/validation-00000-of-00001.parquet": written(hub_table(forge, 2, 8)),
        "test/0000.parquet": written(hub_table(forge, 2, 10)),
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
    report = room.accept_dataset(written(table), holdout_fraction=0.5)
    assert report.classes == ("ant", "owl")


def test_one_image_for_many_rows_is_counted_as_many(forge: Any, room: Any) -> None:
    """A dictionary says it once; decoded for all rows at once it would be large."""
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), [forge.png(0)])
    upload = written(pa.table({"image": dictionary.cast(pa.binary()), "label": [0, 1] * 50_000}))
    assert room.refuse_dataset(upload, max_bytes=20_000).code == "dataset.too_large"


def test_metadata_that_is_nonsense_is_passed_over(forge: Any, room: Any) -> None:
    table = hub_table(forge).replace_schema_metadata({"huggingface": "[" * 50_000})
    assert room.accept_dataset(written(table)).classes == ("0", "1")


def test_limits_are_exact(forge: Any, room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_ROWS", 8)
    room.accept_dataset(written(hub_table(forge, 8)))
    room = type(room)(room.path.parent / "more")
    assert room.refuse_dataset(written(hub_table(forge, 9))).code == "parquet.too_many_rows"
