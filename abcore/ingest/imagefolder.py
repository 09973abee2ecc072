"""Archives of class folders: `train/CLASS/*`, and `val` or `test` likewise; one enclosing folder is fine."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from abcore.data.dataset import Split
from abcore.ingest.archives import Member
from abcore.ingest.collected import SPLIT_NAMES, Collection
from abcore.ingest.images import MOST_FILE_BYTES, SUFFIXES, BrokenImage, decode
from abcore.specs.refusals import Problem, Refusal

_LISTED = 10
MOST_CLASSES = 100_000


def read_imagefolder(
    members: Iterable[Member], image_size: int | None, most_bytes: int
) -> tuple[dict[str, Split], tuple[str, ...], list[Problem]]:
    """Decode all images of an archive: splits, class names in order of their labels, warnings.

    Raises:
        Refusal: `dataset.*`: no class folders, broken images (the first ones named), sizes that differ.
    """
    collection = Collection(most_bytes)
    classes: dict[str, int] = {}
    broken: list[tuple[str, str]] = []
    num_broken = 0
    ignored: list[str] = []
    for member in members:
        place = _place(member.name)
        if place is None:
            ignored.append(member.name)
            continue
        split, class_name = place
        try:
            if member.size_bytes > MOST_FILE_BYTES:
                raise BrokenImage(
                    f"has {member.size_bytes:,} bytes; at most {MOST_FILE_BYTES:,} are accepted"
                )
            pixels = decode(member.read(), image_size)
        except BrokenImage as error:
            num_broken += 1
            if len(broken) < _LISTED:
                broken.append((member.name, str(error)))
            continue
        if len(classes) > MOST_CLASSES:
            raise Refusal(
                "dataset.too_many_classes",
                f"the archive has more than {MOST_CLASSES:,} class folders",
                where="dataset",
                value=MOST_CLASSES,
                hint="Images lie in SPLIT/CLASS/; a folder for each image is not meant.",
            )
        collection.add(split, classes.setdefault(class_name, len(classes)), pixels)
    if broken:
        raise Refusal(
            "dataset.broken_images",
            f"{num_broken} images cannot be decoded; the first one, {broken[0][0]}, {broken[0][1]}",
            where=f"archive:{broken[0][0]}",
            value=[f"{name} {why}" for name, why in broken],
            hint="Replace or remove these files, and send the archive again.",
        )
    if not classes:
        raise Refusal(
            "dataset.no_class_folders",
            f"no image lies in SPLIT/CLASS/; the archive holds {', '.join(ignored[:3]) or 'no file'}"
            + (" ..." if len(ignored) > 3 else ""),
            where="archive",
            value=ignored[:_LISTED],
            allowed=tuple(f"{split}/CLASS/image.png" for split in ("train", "val", "test")),
            hint="Put every image into train/CLASS/, and into val/CLASS/ or test/CLASS/.",
        )
    splits, names = _sort_classes(collection.splits(), classes)
    return splits, names, _ignored_warning(ignored)


def _place(name: str) -> tuple[str, str] | None:
    """Return split and class of an image's path, or None for a file that is no image in a class folder."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in SUFFIXES or len(path.parts) not in (3, 4):
        return None
    split = SPLIT_NAMES.get(path.parts[-3].lower())
    return None if split is None else (split, path.parts[-2])


def _sort_classes(
    splits: dict[str, Split], classes: dict[str, int]
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Number classes by their sorted names, as torchvision's ImageFolder does, whatever their order in the archive."""
    names = tuple(sorted(classes))
    new_label = splits["train"].labels.new_empty(len(classes))
    for label, name in enumerate(names):
        new_label[classes[name]] = label
    return {name: Split(split.images, new_label[split.labels]) for name, split in splits.items()}, names


def _ignored_warning(ignored: list[str]) -> list[Problem]:
    if not ignored:
        return []
    return [
        Problem(
            code="dataset.ignored_files",
            message=f"{len(ignored)} files are no images in class folders and were ignored",
            where=f"archive:{ignored[0]}",
            value=ignored[:_LISTED],
        )
    ]
