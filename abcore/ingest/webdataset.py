"""WebDataset archives: the files of a sample share their name up to its first dot, and lie side by side.

`0001.jpg` with `0001.cls` (a whole number), or with `0001.json` (an object that has `label` or `cls`, a whole number or
a name). A folder called `train`, `val` or `test` says the split; without one, all is `train`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from abcore.ingest.archives import Member
from abcore.ingest.broken import BrokenFiles
from abcore.ingest.collected import SPLIT_NAMES, Collected, Collection, ignored_warning
from abcore.ingest.imagefolder import read_image
from abcore.ingest.images import SUFFIXES, BrokenImage, Pixels, decode
from abcore.ingest.labelling import Labelling
from abcore.specs.refusals import Refusal

MOST_LABEL_BYTES = 2**16
_LABEL_FIELDS = ("label", "cls")
_LISTED = 10


@dataclass
class _Sample:
    images: list[str] = field(default_factory=list)
    pixels: Pixels | None = None
    label: int | str | None = None
    labelled_by: str | None = None


def read_webdataset(members: Iterable[Member], image_size: int | None, most_bytes: int) -> Collected:
    """Decode all samples of an archive.

    Raises:
        Refusal: `webdataset.*`: an image without a label or the other way round, two of them, a label that is none;
            `dataset.*`: broken images (the first ones named), sizes that differ.
    """
    collection, labelling, broken = Collection(most_bytes, image_size), Labelling(), BrokenFiles()
    ignored: list[str] = []
    incomplete: list[str] = []
    for key, files in groupby(members, key=lambda member: split_name(member.name)[0]):
        sample = _gather(files, ignored, broken)
        if not sample.images and sample.label is None:
            continue
        if not sample.images or sample.label is None:
            incomplete.append(key)
        elif sample.pixels is not None:
            label = labelling.number(sample.label, f"archive:{sample.labelled_by}")
            collection.add(_split_of(key), label, sample.pixels)
    broken.refuse_any("archive")
    if incomplete:
        raise Refusal(
            "webdataset.incomplete",
            f"{len(incomplete)} samples have an image without a label beside it, or a label without an image; the "
            f"first one is {incomplete[0]}",
            where=f"archive:{incomplete[0]}",
            value=incomplete[:_LISTED],
            allowed=("KEY.jpg with KEY.cls", "KEY.jpg with KEY.json"),
            hint="The files of a sample must follow each other: pack them sorted by name, tar --sort=name.",
        )
    return collection.settled(labelling, ignored_warning(ignored, "images or labels"))


def split_name(name: str) -> tuple[str, str]:
    """Return the key and the extension of a file: what is before and behind the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    key, _, extension = last.partition(".")
    return folder + slash + key, extension.lower()


def is_image(extension: str) -> bool:
    """Whether a file of this extension is a sample's image: `jpg`, and also `input.jpg`."""
    return f".{extension.rpartition('.')[2]}" in SUFFIXES


def is_label(extension: str) -> bool:
    """Whether a file of this extension holds a sample's label."""
    return extension in ("cls", "json")


def _gather(files: Iterator[Member], ignored: list[str], broken: BrokenFiles) -> _Sample:
    sample = _Sample()
    for member in files:
        extension = split_name(member.name)[1]
        if is_image(extension):
            sample.images.append(member.name)
            if len(sample.images) > 1:
                raise Refusal(
                    "webdataset.several_images",
                    f"a sample has two images, {sample.images[0]} and {member.name}",
                    where=f"archive:{member.name}",
                    value=sample.images,
                    hint="One image a sample: leave out masks and second views, or give them other keys.",
                )
            try:
                sample.pixels = decode(read_image(member))
            except BrokenImage as error:
                broken.add(member.name, error)
        elif is_label(extension):
            label = _read_cls(member) if extension == "cls" else _read_json(member)
            if label is not None and sample.label is not None and label != sample.label:
                raise _bad_label(member, f"says {label!r} where {sample.labelled_by} says {sample.label!r}")
            if label is not None:
                sample.label, sample.labelled_by = label, member.name
        else:
            ignored.append(member.name)
    return sample


def _split_of(key: str) -> str:
    for part in PurePosixPath(key).parts[:-1]:
        if part.lower() in SPLIT_NAMES:
            return SPLIT_NAMES[part.lower()]
    return "train"


def _read_cls(member: Member) -> int:
    text = _read_text(member).strip()
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20):
        raise _bad_label(member, f"is no whole number: {text[:40]!r}")
    return int(text)


def _read_json(member: Member) -> int | str | None:
    """Return the label of a JSON object; None where it holds other things only, beside a `.cls`."""
    try:
        content: Any = json.loads(_read_text(member))
    except (ValueError, RecursionError) as error:
        raise _bad_label(member, f"is no JSON: {str(error)[:100]}") from error
    if not isinstance(content, dict):
        raise _bad_label(member, f"is no object but {type(content).__name__}")
    for name in _LABEL_FIELDS:
        label = content.get(name)
        if isinstance(label, bool) or (label is not None and not isinstance(label, int | str)):
            raise _bad_label(member, f"has a {name} of type {type(label).__name__}")
        if label is not None:
            return label
    return None


def _read_text(member: Member) -> str:
    if member.size_bytes > MOST_LABEL_BYTES:
        raise _bad_label(
            member, f"has {member.size_bytes:,} bytes; at most {MOST_LABEL_BYTES:,} are accepted"
        )
    try:
        return member.read().decode()
    except UnicodeDecodeError as error:
        raise _bad_label(member, "is not UTF-8") from error


def _bad_label(member: Member, why: str) -> Refusal:
    return Refusal(
        "webdataset.bad_label",
        f"{member.name} {why}",
        where=f"archive:{member.name}",
        allowed=("KEY.cls: a whole number", 'KEY.json: {"label": number or name}'),
        hint="Write one label a sample, as wds.TarWriter does for the key `cls` or `json`.",
    )
