"""Archives of class folders: `train/CLASS/*`, and `val` or `test` likewise; one enclosing folder is fine."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from abcore.ingest.archives import Member
from abcore.ingest.broken import BrokenFiles
from abcore.ingest.collected import SPLIT_NAMES, Collected, Collection, ignored_warning
from abcore.ingest.images import MOST_FILE_BYTES, SUFFIXES, BrokenImage, decode
from abcore.ingest.labelling import Labelling
from abcore.specs.refusals import Refusal

_LISTED = 10


def read_imagefolder(members: Iterable[Member], image_size: int | None, most_bytes: int) -> Collected:
    """Decode all images of an archive.

    Raises:
        Refusal: `dataset.*`: no class folders, broken images (the first ones named), sizes that differ.
    """
    collection, labelling, broken = Collection(most_bytes, image_size), Labelling(), BrokenFiles()
    found_any = False
    ignored: list[str] = []
    for member in members:
        place = place_of(member.name)
        if place is None:
            ignored.append(member.name)
            continue
        split, class_name = place
        found_any = True
        try:
            pixels = decode(read_image(member))
        except BrokenImage as error:
            broken.add(member.name, error)
            continue
        collection.add(split, labelling.number(class_name, f"archive:{member.name}"), pixels)
    broken.refuse_any("archive")
    if not found_any:
        raise Refusal(
            "dataset.no_class_folders",
            f"no image lies in SPLIT/CLASS/; the archive holds {', '.join(ignored[:3]) or 'no file'}"
            + (" ..." if len(ignored) > 3 else ""),
            where="archive",
            value=ignored[:_LISTED],
            allowed=tuple(f"{split}/CLASS/image.png" for split in ("train", "val", "test")),
            hint="Put every image into train/CLASS/, and into val/CLASS/ or test/CLASS/.",
        )
    return collection.settled(labelling, ignored_warning(ignored, "images in class folders"))


def read_image(member: Member) -> bytes:
    """Return a member's bytes, which may be an image's.

    Raises:
        BrokenImage: there are more than any image needs.
    """
    if member.size_bytes > MOST_FILE_BYTES:
        raise BrokenImage(f"has {member.size_bytes:,} bytes; at most {MOST_FILE_BYTES:,} are accepted")
    return member.read()


def place_of(name: str) -> tuple[str, str] | None:
    """Return split and class of an image's path, or None for a file that is no image in a class folder."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in SUFFIXES or len(path.parts) not in (3, 4):
        return None
    split = SPLIT_NAMES.get(path.parts[-3].lower())
    return None if split is None else (split, path.parts[-2])
