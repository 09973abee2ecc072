"""From what an upload calls its classes to their numbers: names are sorted first, numbers stay what they are."""

from collections.abc import Mapping

from abcore.data.dataset import Split
from abcore.ingest.archives import check_readable
from abcore.specs.refusals import Refusal

MOST_CLASSES = 100_000


class Labelling:
    """Gathers labels, all names or all whole numbers. `names` are what the numbers are called, where that is known."""

    def __init__(self, names: tuple[str, ...] | None = None) -> None:
        self._given = names
        self._by_name: dict[str, int] = {}
        self._most = -1

    def number(self, label: int | str, where: str) -> int:
        """Return the provisional number of a label that was found at `where`; `settle` makes it final.

        Raises:
            Refusal: `dataset.labels`: out of range, or a name among numbers; `dataset.too_many_classes`.
        """
        if isinstance(label, str):
            if self._most >= 0 or self._given is not None:
                raise _mixed(label, where)
            check_readable(label, where)
            number = self._by_name.setdefault(label, len(self._by_name))
            if len(self._by_name) > MOST_CLASSES:
                raise Refusal(
                    "dataset.too_many_classes",
                    f"the upload has more than {MOST_CLASSES:,} classes",
                    where="dataset",
                    value=MOST_CLASSES,
                    hint="A class has many images; a class for each image is not meant.",
                )
            return number
        if self._by_name:
            raise _mixed(label, where)
        most = MOST_CLASSES if self._given is None else len(self._given)
        if not 0 <= label < most:
            raise Refusal(
                "dataset.labels",
                f"{where} has label {str(label)[:40]}",
                where=where,
                value=str(label)[:40],
                allowed=(f"0 to {most - 1}",),
                hint="Count classes from 0, and leave out images without a label (-1).",
            )
        self._most = max(self._most, label)
        return label

    def settle(self, splits: Mapping[str, Split]) -> tuple[dict[str, Split], tuple[str, ...]]:
        """Return the splits with final numbers, and the names of the classes in their order.

        Named classes are numbered as sorted, as torchvision's ImageFolder does, whatever their order in the upload.
        """
        if not self._by_name:
            return dict(splits), self._given or tuple(str(number) for number in range(self._most + 1))
        names = tuple(sorted(self._by_name))
        new_label = splits["train"].labels.new_empty(len(names))
        for label, name in enumerate(names):
            new_label[self._by_name[name]] = label
        return {name: Split(split.images, new_label[split.labels]) for name, split in splits.items()}, names


def _mixed(label: object, where: str) -> Refusal:
    shown = str(label)[:100]
    return Refusal(
        "dataset.labels",
        f"{where} has label {shown!r}, others are of another kind",
        where=where,
        value=shown,
        allowed=("whole numbers everywhere", "names everywhere"),
        hint="Label all images by number, or all by name.",
    )
