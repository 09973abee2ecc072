"""Parquet files and WebDataset archives that are not what they seem."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hostile.case import Case, Make, Row, family
from plugins.forge import Forge

LABEL, PARQUET_DAMAGED = "webdataset.bad_label", "parquet.damaged"
_FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def written(table: pa.Table, **options: Any) -> bytes:
    """A parquet file of this table."""
    content = io.BytesIO()
    pq.write_table(table, content, **options)
    return content.getvalue()


def hub_table(forge: Forge, count: int = 8, start: int = 0, features: Any = None) -> pa.Table:
    """As `datasets.Dataset.to_parquet` writes it."""
    numbers = range(start, start + count)
    images = [{"bytes": forge.png(i), "path": f"{i}.png"} for i in numbers]
    table = pa.table({"image": images, "label": pa.array([i % 2 for i in numbers], pa.int64())})
    told = {"info": {"features": _FEATURES if features is None else features}}
    return table.replace_schema_metadata({"huggingface": json.dumps(told)})


def _renamed(*names: str) -> Make:
    return lambda forge: written(hub_table(forge, features={}).rename_columns(names))


def _columns(images: Any, labels: Any) -> Make:
    """A file of two columns; a number stands for an image of its own."""
    return lambda forge: written(
        pa.table({"image": [forge.png(x) if isinstance(x, int) else x for x in images], "label": labels})
    )


def _named(*names: Any) -> Make:
    features = _FEATURES | {"label": {"names": names, "_type": "ClassLabel"}}
    return lambda forge: written(hub_table(forge, features=features))


def _path_alone(forge: Forge) -> bytes:
    images = [{"bytes": forge.png(1), "path": ""}, {"bytes": None, "path": "/etc/passwd"}]
    return written(pa.table({"image": images, "label": [0, 1]}))


def _unfolding(_: Forge) -> bytes:
    table = pa.table({"image": [bytes(50 * 2**20)], "label": [0]})
    return written(table, compression="zstd", use_dictionary=False)


def _deep(_: Forge) -> bytes:
    kind: Any = pa.int8()
    for _level in range(90):
        kind = pa.struct([("x", kind)])
    return written(pa.table({"image": pa.array([None], kind), "label": [0]}))


def _tail(tail: bytes) -> Make:
    return lambda forge: written(hub_table(forge))[: -len(tail)] + tail


def _flipped(at: float) -> Make:
    """A whole file, 16 of its bytes turned over."""

    def make(forge: Forge) -> bytes:
        content = bytearray(written(hub_table(forge)))
        start = int(len(content) * at)
        content[start : start + 16] = bytes(255 - byte for byte in content[start : start + 16])
        return bytes(content)

    return make


def _shards(forge: Forge) -> bytes:
    return forge.tar({f"{i}.parquet": _named(f"{i}", "dog")(forge) for i in range(2)})


def _samples(extension: str, **changes: bytes | None) -> Make:
    """A good WebDataset of eight samples, some of its files other, more or absent."""

    def make(forge: Forge) -> bytes:
        files: dict[str, bytes | None] = {}
        for i in range(8):
            files[f"{i:06d}.png"] = forge.png(i)
            label: Any = {"label": i % 2} if extension == "json" else i % 2
            files[f"{i:06d}.{extension}"] = json.dumps(label).encode()
        files |= {name.removeprefix("_").replace("__", "."): body for name, body in changes.items()}
        return forge.tar({name: body for name, body in sorted(files.items()) if body is not None})

    return make


def cases() -> Iterator[Case]:
    """All of them."""
    yield from family(
        "parquet files that are damaged",
        "dataset",
        {
            "cut off": (lambda forge: written(hub_table(forge))[:-9], PARQUET_DAMAGED),
            "cut in half": (lambda forge: written(hub_table(forge))[:1000], PARQUET_DAMAGED),
            "magic alone": (lambda _: b"PAR1", PARQUET_DAMAGED),
            "magic twice": (lambda _: b"PAR1PAR1", PARQUET_DAMAGED),
            "a footer of 2 GB": (_tail(b"\xff\xff\xff\x7fPAR1"), PARQUET_DAMAGED),
            "a footer of less than nothing": (_tail(b"\xff\xff\xff\xffPAR1"), PARQUET_DAMAGED),
            "a footer of nothing": (_tail(bytes(4) + b"PAR1"), PARQUET_DAMAGED),
            "encrypted": (_tail(b"PARE"), PARQUET_DAMAGED),
            "bytes of a page turned over": (_flipped(0.05), "parquet.damaged|dataset.broken_images"),
            "bytes of the footer turned over": (
                _flipped(0.97),
                "parquet.damaged|parquet.columns|parquet.forged|parquet.bomb|dataset.labels|dataset.broken_images",
            ),
        },
    )
    yield from family(
        "parquet files that unfold or reach out",
        "dataset",
        {
            "images that unfold": (_unfolding, "parquet.bomb"),
            "a schema 90 deep": (_deep, "parquet.columns|parquet.damaged"),
            "2,000 columns": (
                lambda _: written(pa.table({f"c{i}": [1] for i in range(2000)})),
                "parquet.columns",
            ),
            "an image that is only a path": (_path_alone, "dataset.broken_images"),
            "images that are URLs": (_columns(["http://x/y"], [0]), "parquet.columns"),
            "shards of other classes": (_shards, "parquet.classes_differ"),
        },
    )
    yield from family(
        "parquet columns that are none",
        "dataset",
        {
            "no images": (_renamed("x", "label"), "parquet.columns"),
            "no labels": (_renamed("image", "x"), "parquet.columns"),
            "two of one name": (_renamed("image", "image"), "parquet.columns"),
            "images that are lists": (_columns([[1, 2]], [0]), "parquet.columns"),
            "labels that are fractions": (_columns([0], [0.5]), "parquet.columns"),
            "a broken image": (_columns([0, b"x"], [0, 1]), "dataset.broken_images"),
            "a label that is null": (_columns([0, 1], [0, None]), "parquet.no_label"),
            "a label of -1": (_columns([0, 1], [0, -1]), "dataset.labels"),
            "a label beyond its names": (
                lambda forge: written(hub_table(forge).set_column(1, "label", pa.array([5] * 8))),
                "dataset.labels",
            ),
            "class names that are numbers": (_named(1, 2), "parquet.class_names"),
            "class names twice": (_named("cat", "cat"), "parquet.class_names"),
            "a class name that upsets a terminal": (_named("a", "\x1b[2J"), "archive.unreadable_name"),
            "a class name that runs backwards": (_named("a", "\u202egnp"), "archive.unreadable_name"),
            "no row": (lambda forge: written(hub_table(forge)[:0]), "dataset.empty"),
        },
    )
    incomplete, bad = "webdataset.incomplete", "archive:000003.cls"
    rows: dict[str, Row] = {
        "an image without a label": (_samples("cls", _000003__cls=None), incomplete, "archive:000003"),
        "a label without an image": (_samples("cls", _000003__png=None), incomplete, "archive:000003"),
        "files of a sample apart": (
            _samples("cls", **{"000003.cls": None, "000003 .x": b"", "000004.txt": b"", "000009.cls": b"1"}),
            incomplete,
            "archive:000003",
        ),
        "a label of text": (_samples("cls", _000003__cls=b"cat"), LABEL, bad),
        "a label of 5,000 digits": (_samples("cls", _000003__cls=b"9" * 5000), LABEL, bad),
        "a label below zero": (_samples("cls", _000003__cls=b"-1"), "dataset.labels", bad),
        "a label in the millions": (_samples("cls", _000003__cls=b"9999999"), "dataset.labels", bad),
        "a label of 100 kB": (_samples("cls", _000003__cls=b" " * 100_000), LABEL, bad),
        "a label that is not UTF-8": (_samples("cls", _000003__cls=b"\xff"), LABEL, bad),
        "two images": (_samples("cls", _000003__jpg=b"x"), "webdataset.several_images", "archive:000003.png"),
        "a broken image": (_samples("cls", _000003__png=b"x"), "dataset.broken_images", "archive:000003.png"),
    }
    json_rows = {
        "JSON that is none": b"{",
        "JSON nested 60,000 deep": b"[" * 60_000,
        "JSON that is no object": b"[1]",
        "a list for a label": b'{"label": [1]}',
        "true for a label": b'{"label": true}',
        "a fraction for a label": b'{"label": 0.5}',
        "no number for a label": b'{"label": NaN}',
        "a number of 5,000 digits": b'{"label": ' + b"9" * 5000 + b"}",
    }
    rows |= {
        name: (_samples("json", _000003__json=body), LABEL, "archive:000003.json")
        for name, body in json_rows.items()
    }
    rows["a name among numbers"] = (
        _samples("json", _000003__json=b'{"label": "cat"}'),
        "dataset.labels",
        "archive:000003.json",
    )
    yield from family("WebDataset labels", "dataset", rows)
