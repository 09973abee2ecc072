"""Which phases read the teacher's answers from disk, and why: decided once a run, from its recipe, sizes and room."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from typing import Any, Literal

import torch

from abcore.answers import Answers, Cached, Kind, Online
from abcore.coming import Coming
from abcore.data.batches import View
from abcore.devices import processor
from abcore.events import Note
from abcore.row_files import RowFile
from abcore.setup import Setup
from abcore.sign_layout import SignLayout
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Refusal
from abcore.specs.runs import SHARED_ANSWERS

LIMIT_VARIABLE = "ABDISTILL_TEACHER_CACHE_BYTES"
DEFAULT_LIMIT_BYTES = 16 * 2**30
SHARE_OF_FREE_DISK = 0.5


@dataclass(frozen=True)
class Choice:
    """Where the teacher's answers come from in each phase; `why` is a sentence for the user, None without a teacher.

    Of the files that are wanted `num_local` are there, and `elsewhere` another worker has.
    """

    transfer: Answers | None
    finetune: Answers | None
    why: str | None
    cached: Cached | None = None
    num_local: int = 0
    elsewhere: tuple[RowFile, ...] = ()

    @property
    def source(self) -> Literal["cached", "online"]:
        """What a recipe says to have it so again."""
        return "online" if self.cached is None else "cached"

    @property
    def outcome(self) -> Note | None:
        """What to tell when training has ended: where the kept answers came from. None where none are kept."""
        if self.cached is None:
            return None
        computed = len(self.cached.computed)
        shared = sum(file.exists for file in self.elsewhere if file not in self.cached.computed)
        return Note(
            level="info",
            code="teacher.answers",
            message=f"Of the files of the teacher's answers {self.num_local} were there, {shared} came from another "
            f"worker, {computed} were computed.",
            details={"local": self.num_local, "shared": shared, "computed": computed},
        )


def choose_answers(setup: Setup, epochs_done: int = 0) -> Choice:
    """Decide for a run, by `recipe.teacher_source`.

    `epochs_done` counts over all phases: what only they needed is not asked of another worker. The choice itself is
    that of the whole run, however often it is taken up again.

    Raises:
        Refusal: the recipe demands `cached`, and the disk has no room (`teacher_source.no_room`).
    """
    if setup.teacher is None:
        return Choice(None, None, None)
    recipe = setup.run.recipe
    online = Online(setup.teacher)
    if recipe.teacher_source == "online":
        return Choice(online, online, "The teacher is asked at every step: the recipe says so.")
    why_not = _why_nothing_recurs(setup)
    if why_not is not None:
        return Choice(online, online, f"The teacher is asked at every step: {why_not}.")
    coming = Coming(setup.cache_folder.parent / SHARED_ANSWERS, setup.should_stop)
    cached, wanted = _cached(setup, coming), _wanted(setup)
    missing = [file for file in (cached.file(*each) for each in wanted) if not file.exists]
    needed, room = sum(file.size_bytes for file in missing), _room_bytes(setup)
    if setup.team.hear(needed > room):
        why_not = f"its answers would take {_gib(needed)}, and there is room for {_gib(room)}"
        if recipe.teacher_source == "cached":
            raise Refusal(
                "teacher_source.no_room",
                f"the teacher's answers cannot be cached: {why_not}",
                where="recipe.teacher_source",
                value="cached",
                allowed=("auto", "online"),
                hint="Take `auto`, which caches where it can; or fewer `augmentation.views`.",
            )
        return Choice(online, online, f"The teacher is asked at every step: {why_not}.")
    offered = coming.names()
    to_come = [cached.file(*each) for each in _wanted(setup, epochs_done)]
    elsewhere = tuple(file for file in to_come if file in missing and file.path.name in offered)
    kinds = sorted({kind for kind, _ in wanted}, reverse=True)
    views = "each epoch's view" if recipe.num_views is None else f"each of {recipe.num_views} views"
    return Choice(
        transfer=cached if recipe.signs_suffice else online,
        finetune=cached if recipe.logits_recur else online,
        why=f"The teacher is asked once about {views} of the images, and its {' and '.join(kinds)} are kept: "
        f"{len(wanted) - len(missing)} of {len(wanted)} files are there, {_gib(needed)} to come"
        + (f", {len(elsewhere)} files of it from another worker." if elsewhere else "."),
        cached=cached,
        num_local=len(wanted) - len(missing),
        elsewhere=elsewhere,
    )


def _why_nothing_recurs(setup: Setup) -> str | None:
    recipe = setup.run.recipe
    if not recipe.answers_recur:
        return (
            "what this recipe compares cannot be kept: it needs the values of the maps, or answers that depend on a "
            "batch or a mixture of images"
        )
    if recipe.num_views is None and recipe.teacher_source == "auto":
        return "every epoch shows new views of the images"
    return None


def _wanted(setup: Setup, epochs_done: int = 0) -> list[tuple[Kind, View]]:
    """The answers that this run will ask for from an epoch on, in the order in which it will."""
    recipe = setup.run.recipe
    transfer_epochs = recipe.transfer.epochs if recipe.transfer is not None else 0
    finetune_epochs = recipe.finetune.epochs if recipe.finetune is not None else 0
    wanted: list[tuple[Kind, View]] = []
    if recipe.signs_suffice:
        wanted.append(("signs", View(setup.dataset.evaluation_split)))
        wanted += [("signs", view) for view in _views(recipe, range(epochs_done, transfer_epochs))]
    if recipe.logits_recur:
        # Transfer keeps those of its views too: one pass gives both.
        first = epochs_done if recipe.signs_suffice else max(epochs_done, transfer_epochs)
        wanted += [
            ("logits", view) for view in _views(recipe, range(first, transfer_epochs + finetune_epochs))
        ]
    return wanted


def _views(recipe: Recipe, epochs: range) -> list[View]:
    return [View("train", number) for number in sorted({recipe.view_number(epoch) for epoch in epochs})]


def _room_bytes(setup: Setup) -> int:
    limit = int(os.environ.get(LIMIT_VARIABLE, DEFAULT_LIMIT_BYTES))
    free = shutil.disk_usage(setup.cache_folder.parent).free
    return min(limit, int(free * SHARE_OF_FREE_DISK))


def _cached(setup: Setup, coming: Coming) -> Cached:
    assert setup.teacher is not None
    assert setup.run.teacher is not None
    recipe = setup.run.recipe
    return Cached(
        setup.teacher,
        setup.cache_folder,
        _identity(setup),
        taps=SignLayout.of(setup.pairs, channels_last=setup.computation.memory_format == "channels_last"),
        tap_names=[pair.teacher.name for pair in setup.pairs],
        num_classes=setup.run.teacher.num_classes,
        keep_logits=recipe.logits_recur,
        whole_view=setup.whole_view,
        num_images=lambda split: len(setup.dataset.splits[split]),
        autocast=setup.autocast,
        fills=setup.team.leads,
        coming=coming,
    )


def _identity(setup: Setup) -> dict[str, Any]:
    """What an answer depends on: the network, its weights, the pixels, what is done to them, and how it is computed."""
    assert setup.teacher is not None
    assert setup.run.teacher is not None
    recipe = setup.run.recipe
    pixels = hashlib.sha256()
    for name in sorted({"train", setup.dataset.evaluation_split}):
        images = setup.dataset.splits[name].images
        pixels.update(f"{name} {tuple(images.shape)}\n".encode())
        pixels.update(images.contiguous().view(-1).numpy().data)
    moves = recipe.augmentation.moves
    return {
        "teacher": setup.run.teacher.model_dump(mode="json"),
        "weights": setup.teacher.digest,
        "pixels": pixels.hexdigest(),
        "normalization": setup.run.normalization.model_dump(mode="json"),
        "crop_padding": recipe.augmentation.crop_padding,
        "horizontal_flip": recipe.augmentation.horizontal_flip,
        "view_seed": recipe.view_seed if moves else None,
        "precision": setup.computation.precision,
        "device": setup.device.type,
        "processor": processor(setup.device),
        "batch": setup.feed.evaluation_batch_size,
        "threads": torch.get_num_threads() if setup.device.type == "cpu" else None,
        "torch": torch.__version__,
    }


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
