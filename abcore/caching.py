"""Which phases read the teacher's answers from disk, and why: decided once a run, from its recipe, sizes and room."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from typing import Any, Literal

import torch

from abcore.answers import Answers, Cached, Kind, Online
from abcore.data.batches import View
from abcore.setup import Setup
from abcore.sign_layout import SignLayout
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Refusal

LIMIT_VARIABLE = "ABDISTILL_TEACHER_CACHE_BYTES"
DEFAULT_LIMIT_BYTES = 16 * 2**30
SHARE_OF_FREE_DISK = 0.5


@dataclass(frozen=True)
class Choice:
    """Where the teacher's answers come from in each phase; `why` is a sentence for the user, None without a teacher."""

    transfer: Answers | None
    finetune: Answers | None
    why: str | None

    @property
    def source(self) -> Literal["cached", "online"]:
        """What a recipe says to have it so again."""
        return (
            "cached" if isinstance(self.transfer, Cached) or isinstance(self.finetune, Cached) else "online"
        )


def choose_answers(setup: Setup) -> Choice:
    """Decide for a run, by `recipe.teacher_source`.

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
    cached, wanted = _cached(setup), _wanted(setup)
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
    kinds = sorted({kind for kind, _ in wanted}, reverse=True)
    views = "each epoch's view" if recipe.num_views is None else f"each of {recipe.num_views} views"
    return Choice(
        transfer=cached if recipe.signs_suffice else online,
        finetune=cached if recipe.logits_recur else online,
        why=f"The teacher is asked once about {views} of the images, and its {' and '.join(kinds)} are kept: "
        f"{len(wanted) - len(missing)} of {len(wanted)} files are there, {_gib(needed)} to come.",
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


def _wanted(setup: Setup) -> list[tuple[Kind, View]]:
    """The answers that this run will ask for."""
    recipe = setup.run.recipe
    transfer_epochs = recipe.transfer.epochs if recipe.transfer is not None else 0
    finetune_epochs = recipe.finetune.epochs if recipe.finetune is not None else 0
    wanted: list[tuple[Kind, View]] = []
    if recipe.signs_suffice:
        wanted += [("signs", view) for view in _views(recipe, range(transfer_epochs))]
        wanted.append(("signs", View(setup.dataset.evaluation_split)))
    if recipe.logits_recur:
        # Transfer keeps those of its views too: one pass gives both.
        first = 0 if recipe.signs_suffice else transfer_epochs
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


def _cached(setup: Setup) -> Cached:
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
        "batch": setup.feed.evaluation_batch_size,
        "threads": torch.get_num_threads() if setup.device.type == "cpu" else None,
        "torch": torch.__version__,
    }


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
