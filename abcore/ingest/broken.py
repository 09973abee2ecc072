"""Images of an upload that cannot be decoded: counted to the end, so that one answer names the first of them all."""

from abcore.ingest.images import BrokenImage
from abcore.specs.refusals import Refusal

_LISTED = 10


class BrokenFiles:
    """What could not be decoded so far."""

    def __init__(self) -> None:
        self._first: list[tuple[str, str]] = []
        self._count = 0

    def add(self, where: str, error: BrokenImage) -> None:
        """Take note of an image and of why."""
        self._count += 1
        if len(self._first) < _LISTED:
            self._first.append((where, str(error)))

    def refuse_any(self, source: str) -> None:
        """Refuse the upload if there was one; `source` is what the places lie in (`archive`, `parquet`).

        Raises:
            Refusal: `dataset.broken_images`.
        """
        if self._first:
            name, why = self._first[0]
            raise Refusal(
                "dataset.broken_images",
                f"{self._count} images cannot be decoded; the first one, {name}, {why}",
                where=f"{source}:{name}",
                value=[f"{place} {reason}" for place, reason in self._first],
                hint="Replace or remove these files, and send the upload again.",
            )
