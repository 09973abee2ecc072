"""Parquet files as the Hugging Face Hub keeps image datasets: a column of image files, a column of labels.

The image column is `struct<bytes: binary, path: string>` or `binary`; the label column whole numbers or strings. Which
they are, and what the numbers are called, is read from the `huggingface` entry of the schema's metadata where there is
one, else from the columns' names. Several files in one archive are shards, their split in their names:
`train-00000-of-00002.parquet`, `data/test-00000-of-00001.parquet`, `val/0.parquet`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from abcore.ingest.archives import MOST_RATIO, Member, check_readable
from abcore.ingest.broken import BrokenFiles
from abcore.ingest.collected import SPLIT_NAMES, Collected, Collection, ignored_warning, too_large
from abcore.ingest.images import MOST_FILE_BYTES, BrokenImage, decode
from abcore.ingest.labelling import MOST_CLASSES, Labelling
from abcore.specs.refusals import Refusal

SUFFIX = ".parquet"
MOST_ROWS = 5_000_000
MOST_ROW_GROUPS = 65_536
MOST_COLUMNS = 1_000
IMAGE_NAMES = ("image", "img", "images", "jpg", "png", "picture")
LABEL_NAMES = ("label", "labels", "fine_label", "cls", "class", "target")

_MOST_FOOTER_STRING = 64 * 2**20
_SMALL_BYTES = 2**20
_BUFFER_BYTES = 2**20
_BATCH_ROWS = 8
"""Rows decoded at a time: a dictionary can give all of them one large value, which is copied for each."""

_SPLIT = re.compile(r"^(" + "|".join(SPLIT_NAMES) + r")(?=[-_.]|$)")
_LISTED = 10


@dataclass(frozen=True)
class _Columns:
    image: str
    leaf: str
    label: str
    classes: tuple[str, ...] | None


def read_parquet_file(upload: Path, name: str, image_size: int | None, most_bytes: int) -> Collected:
    """Read one file; all of it is `train`. `name` is what to call it.

    Raises:
        Refusal: as `read_parquet_files`.
    """
    reading = _Reading(image_size, most_bytes)
    reading.add("train", name, upload, upload.stat().st_size)
    return reading.settled([])


def read_parquet_files(members: Iterable[Member], image_size: int | None, most_bytes: int) -> Collected:
    """Read the parquet files of an archive, one in memory at a time.

    Raises:
        Refusal: `parquet.*`: damaged, encrypted, without such columns, of other types, or more than it claims to be;
            `dataset.*`: broken images (the first ones named), sizes that differ.
    """
    reading = _Reading(image_size, most_bytes)
    ignored = []
    for member in members:
        if not member.name.endswith(SUFFIX):
            ignored.append(member.name)
            continue
        if member.size_bytes > most_bytes + _SMALL_BYTES:
            raise too_large(most_bytes)
        content = member.read()
        reading.add(_split_of(member.name), member.name, pa.BufferReader(content), len(content))
    return reading.settled(ignored)


class _Reading:
    """The rows of one file after the other."""

    def __init__(self, image_size: int | None, most_bytes: int) -> None:
        self._collection = Collection(most_bytes, image_size)
        self._labelling: Labelling | None = None
        self._classes: tuple[str, ...] | None = None
        self._broken = BrokenFiles()

    def add(self, split: str, name: str, source: Any, size_bytes: int) -> None:
        with _damage_refused(name), _opened(source) as file:
            columns = _find_columns(name, file.schema_arrow)
            _check_claims(name, file.metadata, columns, size_bytes)
            labelling = self._labelling_for(name, columns)
            row = -1
            for batch in file.iter_batches(
                batch_size=_BATCH_ROWS, columns=[columns.leaf, columns.label], use_threads=False
            ):
                for image, label in zip(batch[columns.image], batch[columns.label], strict=True):
                    row += 1
                    self._take(split, f"{name}, row {row}", image.as_py(), label.as_py(), labelling)

    def settled(self, ignored: list[str]) -> Collected:
        self._broken.refuse_any("parquet")
        return self._collection.settled(
            self._labelling or Labelling(), ignored_warning(ignored, "parquet files")
        )

    def _take(self, split: str, where: str, image: Any, label: Any, labelling: Labelling) -> None:
        content = image.get("bytes") if isinstance(image, dict) else image
        if label is None:
            raise _refused("no_label", where, "has no label", "Leave out rows without a label.")
        try:
            if content is None:
                raise BrokenImage("has no bytes; files that a path leads to are not looked for")
            if len(content) > MOST_FILE_BYTES:
                raise BrokenImage(f"has {len(content):,} bytes; at most {MOST_FILE_BYTES:,} are accepted")
            pixels = decode(content)
        except BrokenImage as error:
            self._broken.add(where, error)
            return
        self._collection.add(split, labelling.number(label, f"parquet:{where}"), pixels)

    def _labelling_for(self, name: str, columns: _Columns) -> Labelling:
        if self._labelling is None:
            self._labelling, self._classes = Labelling(columns.classes), columns.classes
        elif columns.classes != self._classes:
            raise _refused(
                "classes_differ",
                name,
                "names other classes than the file before it",
                "All shards of a dataset have one schema.",
            )
        return self._labelling


def _opened(source: Any) -> Any:
    return pq.ParquetFile(
        source,
        thrift_string_size_limit=_MOST_FOOTER_STRING,
        thrift_container_size_limit=MOST_ROW_GROUPS,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
    )


@contextmanager
def _damage_refused(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        said = str(error).encode("ascii", "backslashreplace").decode()[:200]
        raise _refused(
            "damaged",
            name,
            f"cannot be read: {said}",
            "The file was cut off, altered on its way, or is encrypted: write it again and send it with its sha256.",
        ) from error


def _split_of(name: str) -> str:
    """`data/train-00000-of-00001.parquet` and `train/0.parquet` are of `train`; so is what says nothing."""
    for part in reversed(PurePosixPath(name.lower()).parts):
        found = _SPLIT.match(part)
        if found:
            return SPLIT_NAMES[found[1]]
    return "train"


def _find_columns(name: str, schema: Any) -> _Columns:
    if len(schema) > MOST_COLUMNS or len(set(schema.names)) < len(schema):
        raise _refused(
            "columns",
            name,
            f"has {len(schema)} columns, or two of one name",
            f"At most {MOST_COLUMNS} columns are accepted, each with a name of its own.",
        )
    features = _features(schema.metadata or {})
    image = _pick(schema, features, "Image", IMAGE_NAMES, _is_image)
    label = _pick(schema, features, "ClassLabel", LABEL_NAMES, _is_label)
    if image is None or label is None:
        listed = [
            f"{field.name.encode('ascii', 'backslashreplace').decode()[:60]}: {str(field.type)[:60]}"
            for field in list(schema)[:_LISTED]
        ]
        raise Refusal(
            "parquet.columns",
            f"{name} has no column of {'images' if image is None else 'labels'}; its columns are {', '.join(listed)}",
            where=f"parquet:{name}",
            value=listed,
            allowed=(
                f"image: struct<bytes: binary, path: string> or binary, called {', '.join(IMAGE_NAMES)}",
                f"label: a whole number or a string, called {', '.join(LABEL_NAMES)}",
            ),
            hint="Rename the columns: dataset.rename_column('old', 'image').",
        )
    kind = schema.field(image).type
    classes = (
        _class_names(name, features.get(label)) if pa.types.is_integer(schema.field(label).type) else None
    )
    return _Columns(image, f"{image}.bytes" if pa.types.is_struct(kind) else image, label, classes)


def _pick(
    schema: Any, features: dict[str, Any], feature: str, names: tuple[str, ...], fits: Any
) -> str | None:
    """The column that the metadata says, where it says one, else the first of the usual names; of a type that fits."""
    said = [
        name
        for name in schema.names
        if isinstance(features.get(name), dict) and features[name].get("_type") == feature
    ]
    for name in (*said, *names) if len(said) == 1 else names:
        if name in schema.names and fits(schema.field(name).type):
            return name
    return None


def _is_image(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What `datasets` wrote about the columns; nothing where that is not there or is not what it writes."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_names(name: str, feature: Any) -> tuple[str, ...] | None:
    names = feature.get("names") if isinstance(feature, dict) else None
    if names is None:
        return None
    if (
        not isinstance(names, list)
        or not all(isinstance(entry, str) for entry in names)
        or not 0 < len(set(names)) == len(names) <= MOST_CLASSES
    ):
        raise _refused(
            "class_names",
            name,
            "has class names in its metadata that are not different strings",
            "Write the file again with datasets.ClassLabel(names=[...]).",
        )
    for entry in names:
        check_readable(entry, f"parquet:{name}")
    return tuple(names)


def _check_claims(name: str, metadata: Any, columns: _Columns, size_bytes: int) -> None:
    """Hold what the footer says against the file, before anything is decoded."""
    if not 0 <= metadata.num_rows <= MOST_ROWS or metadata.num_row_groups > MOST_ROW_GROUPS:
        raise _refused(
            "too_many_rows",
            name,
            f"claims {metadata.num_rows:,} rows in {metadata.num_row_groups:,} row groups",
            f"At most {MOST_ROWS:,} rows in {MOST_ROW_GROUPS:,} row groups are accepted: split the dataset.",
        )
    compressed = uncompressed = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            if column.path_in_schema not in (columns.leaf, columns.label):
                continue
            compressed += max(0, column.total_compressed_size)
            if column.path_in_schema == columns.leaf:
                uncompressed += max(0, column.total_uncompressed_size)
    if compressed > size_bytes:
        raise _refused(
            "forged",
            name,
            f"claims {compressed:,} bytes of images and labels, and has {size_bytes:,} in all",
            "Write the file again.",
        )
    if uncompressed > max(compressed * MOST_RATIO, _SMALL_BYTES):
        raise _refused(
            "bomb",
            name,
            f"unfolds {compressed:,} bytes into {uncompressed:,}; more than {MOST_RATIO}-fold is not accepted",
            "Write the image column without compression: images are compressed already.",
        )


def _refused(code: str, where: str, why: str, hint: str) -> Refusal:
    return Refusal(f"parquet.{code}", f"{where} {why}", where=f"parquet:{where}", hint=hint)
