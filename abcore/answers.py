"""What the teacher answers to a batch: asked at every step, or once for each view of an image and kept on disk.

Of a teacher the method needs one bit a neuron, and KD its logits; both depend on the image as it is seen and on
nothing else. Where views come again (recipe: `augmentation.views`), so do the answers, in this run and in every later
one with the same teacher, data and views.
"""

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from abcore.coming import LOOK_SECONDS, Coming
from abcore.data.batches import Batch, View
from abcore.row_files import RowFile
from abcore.sign_layout import SignLayout
from abcore.teachers import Teacher
from abcore.views import PackedSigns, Views

Kind = Literal["signs", "logits"]
FORMAT = 1
"""Raise it when the bytes of a file would come out otherwise for the same key."""


class Answers(ABC):
    """Where a phase gets the teacher's view of a batch from. The teacher must be open."""

    @abstractmethod
    def boundaries(self, batch: Batch) -> Views:
        """Return views with `boundaries`."""

    @abstractmethod
    def logits(self, batch: Batch) -> Views:
        """Return views with `logits`."""


class Online(Answers):
    """Asks the teacher at every batch."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def boundaries(self, batch: Batch) -> Views:
        """Return the pre-activations, whose signs the boundaries are."""
        return self._teacher.preacts(batch.images)

    def logits(self, batch: Batch) -> Views:
        """Return the logits."""
        return self._teacher.logits(batch.images)


class Cached(Answers):
    """Asks the teacher when a view is first needed, about all its images in one pass, and reads the files from then on.

    The pass takes the images in the split's order, in batches of their own size: what is kept depends on its key alone,
    not on who asked first. Signs are kept as bits, logits as float32: they are few, and in half precision KD would
    differ in its fourth digit from what the teacher says.
    """

    def __init__(
        self,
        teacher: Teacher,
        folder: Path,
        identity: dict[str, Any],
        *,
        taps: SignLayout,
        tap_names: Sequence[str],
        num_classes: int,
        keep_logits: bool,
        whole_view: Callable[[View], Iterator[Batch]],
        num_images: Callable[[str], int],
        autocast: Callable[[], AbstractContextManager[None]],
        fills: bool = True,
        coming: Coming | None = None,
    ) -> None:
        """Prepare to answer from `folder`.

        Args:
            teacher: is asked about views that are not there yet.
            folder: of the files; made when it is missing.
            identity: what the answers depend on besides the view: teacher, pixels, transform, precision.
            taps: how signs are laid out.
            tap_names: of the teacher, shallow to deep.
            num_classes: of the teacher.
            keep_logits: while signs are made, keep logits too: a phase to come will ask for them.
            whole_view: all images of a view in the split's order.
            num_images: of a split.
            autocast: precision of the teacher's passes over augmented views.
            fills: false where another process of the same run makes the files: this one waits for them.
            coming: files that may come from another worker, and are waited for before the teacher is asked.
        """
        self._teacher = teacher
        self._folder = folder
        self._identity = identity
        self._taps = taps
        self._tap_names = tuple(tap_names)
        self._num_classes = num_classes
        self._keep_logits = keep_logits
        self._whole_view = whole_view
        self._num_images = num_images
        self._coming = coming
        self._autocast = autocast
        self._fills = fills
        self._files: dict[tuple[Kind, View], RowFile] = {}
        self.computed: list[RowFile] = []
        """What this process had its own teacher say."""
        folder.mkdir(exist_ok=True)

    def boundaries(self, batch: Batch) -> Views:
        """Return the boundaries, from the file of this view."""
        signs = self.file("signs", batch.view)
        if not signs.exists:
            self._fill(batch.view, signs=True, logits=self._keep_logits and batch.view.number is not None)
        packed_BP = _move(signs.read(batch.indices), batch.images.device)
        return Views(signs=PackedSigns(packed_BP, self._taps))

    def logits(self, batch: Batch) -> Views:
        """Return the logits, float32, from the file of this view."""
        file = self.file("logits", batch.view)
        if not file.exists:
            self._fill(batch.view, signs=False, logits=True)
        rows_BP = _move(file.read(batch.indices), batch.images.device)
        return Views(logits=rows_BP.view(torch.float32))

    def file(self, kind: Kind, view: View) -> RowFile:
        """Return where answers of a kind to a view are kept, or will be."""
        if (kind, view) not in self._files:
            what = {"taps": self._tap_names, "layout": self._taps.channels_last} if kind == "signs" else {}
            key = {"format": FORMAT, "kind": kind, "view": view._asdict(), **self._identity, **what}
            name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]
            row_bytes = self._taps.row_bytes if kind == "signs" else 4 * self._num_classes
            self._files[kind, view] = RowFile(
                self._folder / f"{kind}-{name}", self._num_images(view.split), row_bytes
            )
        return self._files[kind, view]

    @torch.no_grad()
    def _fill(self, view: View, *, signs: bool, logits: bool) -> None:
        """Ask the teacher about every image of a view, or wait until another process or another worker has."""
        needed = self.file("signs" if signs else "logits", view)
        if not self._fills:
            while not needed.exists:
                time.sleep(LOOK_SECONDS)
            return
        if self._coming is not None and self._coming.wait_for(needed):
            return
        with ExitStack() as files:
            if signs:
                put_signs = files.enter_context(self.file("signs", view).writing())
            if logits:
                put_logits = files.enter_context(self.file("logits", view).writing())
            for batch in self._whole_view(view):
                # Held-out images are always looked at in float32.
                with self._autocast() if view.number is not None else nullcontext():
                    views = self._ask(batch, signs=signs, logits=logits)
                if signs:
                    put_signs(self._taps.pack(views.preacts))
                if views.logits is not None:
                    put_logits(views.logits.float().contiguous().view(torch.uint8))
        if signs:
            self.computed.append(self.file("signs", view))
        if logits:
            self.computed.append(self.file("logits", view))

    def _ask(self, batch: Batch, *, signs: bool, logits: bool) -> Views:
        if signs and logits:
            return self._teacher.everything(batch.images)
        if signs:
            return self._teacher.preacts(batch.images)
        return self._teacher.logits(batch.images)


def _move(rows_BP: Tensor, device: torch.device) -> Tensor:
    # Only from pinned memory is a copy to the device asynchronous.
    rows_BP = rows_BP.pin_memory() if device.type == "cuda" else rows_BP
    return rows_BP.to(device, non_blocking=True)
