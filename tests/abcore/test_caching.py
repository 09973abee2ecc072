"""The teacher's answers, kept: the same as if it had been asked, asked for once, and never half of them."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from abcore.answers import Cached
from abcore.atomic import write_atomically
from abcore.caching import LIMIT_VARIABLE, choose_answers
from abcore.data.batches import View
from abcore.events import EventReader
from abcore.progress import Stopped
from abcore.row_files import RowFile
from abcore.setup import Setup, prepare
from abcore.specs.recipes import Finetune, Recipe, Transfer
from abcore.specs.refusals import Refusal
from abcore.specs.runs import SHARED_ANSWERS
from abcore.teachers import Teacher

MakeBench = Callable[..., Any]
FOLDER = "teacher-cache"
NUM_FILES = 6  # signs of two views and of the held-out images, logits of three views
time_sleep = time.sleep
PHASE = {"epochs": 9, "batch_size": 20}  # 54 steps


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the teacher was asked about, a number for each pass through it in training or to fill."""
    passes: list[int] = []
    for name in ("preacts", "logits", "everything"):
        original = getattr(Teacher, name)

        def counting(self: Teacher, images: torch.Tensor, original: Any = original) -> Any:
            passes.append(len(images))
            return original(self, images)

        monkeypatch.setattr(Teacher, name, counting)
    return passes


def recipe_of(recipe: Recipe, **changes: Any) -> Recipe:
    fields = recipe.model_dump()
    views = {"views": changes.pop("views", 3), "view_seed": changes.pop("view_seed", None)}
    return Recipe.model_validate({**fields, "augmentation": {**fields["augmentation"], **views}, **changes})


def losses_of(bench: Any) -> list[tuple[str, float]]:
    return [(m.phase, m.values["loss"]) for m in bench.events("metrics") if "loss" in m.values]


def setup_of(bench: Any) -> Setup:
    return prepare(bench.run, bench.workspace, torch.device("cpu"), lambda: False)


def test_training_on_kept_answers_is_training_on_the_teachers_own(
    make_bench: MakeBench, recipe: Recipe
) -> None:
    phases = {"transfer": Transfer(**PHASE), "finetune": Finetune(**PHASE)}
    losses = {}
    for source in ("cached", "online"):
        bench = make_bench(source, recipe=recipe_of(recipe, teacher_source=source, **phases))
        bench.distill()
        losses[source] = losses_of(bench)
        assert (bench.workspace / FOLDER).exists() == (source == "cached")
    assert len(losses["cached"]) == 18
    for (phase, cached), (of_phase, online) in zip(losses["cached"], losses["online"], strict=True):
        assert phase == of_phase
        assert cached == pytest.approx(online, rel=1e-5)


def test_the_teacher_is_asked_once_about_each_view_and_by_a_second_job_not_at_all(
    make_bench: MakeBench, recipe: Recipe, asked: list[int]
) -> None:
    phases = {"transfer": Transfer(**PHASE), "finetune": Finetune(**PHASE)}
    first = make_bench("first", recipe=recipe_of(recipe, **phases))
    first.distill()
    assert sum(asked) == 3 * 120 + 60  # three views of the training images, and the held-out ones
    asked.clear()
    # Another student, another seed of weights and order: the same teacher, images and views.
    other = recipe_of(recipe, seed=5, view_seed=0, **phases)
    second = make_bench("second", recipe=other, student={"arch": "resnet_cifar", "depth": 8})
    shutil.copytree(first.workspace / FOLDER, second.workspace / FOLDER)
    second.distill()
    assert sum(asked) == 0


def outcome(bench: Any) -> dict[str, int]:
    (note,) = (note for note in bench.events("note") if note.code == "teacher.answers")
    return dict(note.details)


@pytest.fixture
def elsewhere(make_bench: MakeBench, recipe: Recipe) -> Path:
    """What another worker has: the folder of a job that has asked its teacher about all."""
    bench = make_bench("elsewhere", recipe=recipe_of(recipe))
    bench.distill()
    assert outcome(bench) == {"local": 0, "shared": 0, "computed": NUM_FILES}
    return bench.workspace / FOLDER


def deliver(workspace: Path, elsewhere: Path, names: list[str], over: threading.Event) -> None:
    """As a worker does: wait until the child asks, then bring file after file and strike it off."""
    while not over.is_set() and '"answers.wanted"' not in (workspace / "events.jsonl").read_text():
        time.sleep(0.01)
    offered = list(names)
    (asked,) = (r.files for r in EventReader(workspace / "events.jsonl").read() if r.type == "answers.wanted")
    for name in asked:
        shutil.copy(elsewhere / name, workspace / f"fetched-{name}")
        (workspace / f"fetched-{name}").replace(workspace / FOLDER / name)
        offered.remove(name)
        write_atomically(workspace / SHARED_ANSWERS, "\n".join(offered).encode())


def test_what_another_worker_has_is_asked_for_and_not_computed(
    make_bench: MakeBench, recipe: Recipe, elsewhere: Path, asked: list[int]
) -> None:
    asked.clear()
    bench = make_bench("here", recipe=recipe_of(recipe, seed=5, view_seed=0))
    names = [f"signs-{'0' * 40}", *(path.name for path in elsewhere.iterdir())]  # one is of no use here
    (bench.workspace / SHARED_ANSWERS).write_text("\n".join(names))
    (bench.workspace / "events.jsonl").touch()
    over = threading.Event()
    thread = threading.Thread(target=deliver, args=(bench.workspace, elsewhere, names, over))
    thread.start()
    try:
        bench.distill()
    finally:
        over.set()
        thread.join()
    assert sum(asked) == 0
    assert outcome(bench) == {"local": 0, "shared": NUM_FILES, "computed": 0}
    assert (bench.workspace / SHARED_ANSWERS).read_text() == names[0]


def test_what_does_not_come_is_computed(
    make_bench: MakeBench, recipe: Recipe, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that promises and brings nothing costs the run its patience once, not once a file."""
    monkeypatch.setattr("abcore.coming.PATIENCE_SECONDS", 0.2)
    bench = make_bench("here", recipe=recipe_of(recipe, view_seed=0))
    (bench.workspace / SHARED_ANSWERS).write_text("\n".join(path.name for path in elsewhere.iterdir()))
    slept: list[float] = []
    monkeypatch.setattr(
        "abcore.coming.time.sleep", lambda seconds: slept.append(seconds) or time_sleep(seconds)
    )
    bench.distill()
    assert outcome(bench) == {"local": 0, "shared": 0, "computed": NUM_FILES}
    assert 0 < len(slept) <= 4
    assert {path.name: path.read_bytes() for path in (bench.workspace / FOLDER).iterdir()} == {
        path.name: path.read_bytes() for path in elsewhere.iterdir()
    }


def test_where_nothing_is_offered_nothing_is_waited_for(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abcore.coming.time.sleep", lambda _: pytest.fail("the run waited"))
    bench = make_bench(recipe=recipe_of(recipe))
    bench.distill()
    assert outcome(bench)["computed"] == NUM_FILES
    assert not bench.events("answers.wanted")


def test_who_goes_on_asks_for_what_is_still_to_be_shown(
    make_bench: MakeBench, recipe: Recipe, elsewhere: Path
) -> None:
    bench = make_bench("here", recipe=recipe_of(recipe, view_seed=0))
    with pytest.raises(Stopped):
        bench.distill(stop_after=16)
    assert bench.events("phase.started")[-1].phase == "finetune"
    shutil.rmtree(bench.workspace / FOLDER)  # it goes on elsewhere
    (bench.workspace / SHARED_ANSWERS).write_text("\n".join(path.name for path in elsewhere.iterdir()))
    with pytest.raises(Stopped):
        bench.distill(stop_after=1)
    (wanted,) = bench.events("answers.wanted")
    kinds = [name.split("-")[0] for name in wanted.files]
    assert kinds == ["signs", "logits", "logits"], (
        "signs of held-out images alone: similarity is measured at the end"
    )


def test_a_run_that_waits_can_be_stopped(make_bench: MakeBench, recipe: Recipe, elsewhere: Path) -> None:
    bench = make_bench("here", recipe=recipe_of(recipe, view_seed=0))
    (bench.workspace / SHARED_ANSWERS).write_text("\n".join(path.name for path in elsewhere.iterdir()))
    with pytest.raises(Stopped):
        bench.distill(stop_after=2)
    assert outcome(bench) == {"local": 0, "shared": 0, "computed": 0}


def test_what_is_kept_does_not_depend_on_who_asked_first(make_bench: MakeBench, recipe: Recipe) -> None:
    kept = []
    for batch_size in (20, 50):
        changed = recipe_of(recipe, transfer=Transfer(epochs=3, batch_size=batch_size), seed=3)
        bench = make_bench(str(batch_size), recipe=changed)
        bench.distill()
        files = sorted((bench.workspace / FOLDER).iterdir())
        kept.append({file.name: file.read_bytes() for file in files})
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3 + 3 + 1  # signs and logits of three views, signs of the held-out images


@pytest.mark.parametrize(
    "changes",
    [
        {"view_seed": 7},
        {"augmentation": {"crop_padding": 2, "horizontal_flip": False, "views": 3}},
        {"augmentation": {"crop_padding": 1, "horizontal_flip": True, "views": 3}},
        {"precision": "bf16"},
        {"taps": {"student": ["bn1"], "teacher": ["bn1"]}},
    ],
)
def test_what_answers_depend_on_is_in_their_names(
    make_bench: MakeBench, recipe: Recipe, changes: dict[str, Any]
) -> None:
    names = []
    for number, change in enumerate(({}, changes)):
        fields = {**recipe_of(recipe).model_dump(), **recipe_of(recipe, **change).model_dump()}
        fields |= {field: value for field, value in change.items() if field != "view_seed"}
        bench = make_bench(str(number), recipe=Recipe.model_validate({**fields, "finetune": None}))
        bench.distill()
        names.append({file.name for file in (bench.workspace / FOLDER).iterdir()})
    of_training = [len(each) for each in names]
    assert of_training == [3, 3]  # two epochs' views and the held-out images
    shared = names[0] & names[1]
    assert not shared


def test_an_interrupted_pass_leaves_nothing_and_is_made_again(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = setup_of(make_bench(recipe=recipe_of(recipe)))
    answers = choose_answers(setup).transfer
    assert isinstance(answers, Cached)
    batch = next(setup.training_batches(Transfer(batch_size=40), 0, 0))
    assert setup.teacher is not None
    with setup.teacher, monkeypatch.context() as broken:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        broken.setattr("abcore.row_files._append", full)
        with pytest.raises(OSError, match="No space left"):
            answers.boundaries(batch)
        assert list(setup.cache_folder.iterdir()) == []
        broken.undo()
        views = answers.boundaries(batch)
        expected = setup.teacher.preacts(batch.images)
    for kept, own in zip(views.boundaries, expected.boundaries, strict=True):
        assert (kept == own).double().mean() > 0.99999


def test_a_file_of_another_size_is_not_taken_for_the_answers(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows", num_rows=4, row_bytes=3)
    assert not file.exists
    file.path.write_bytes(b"x" * 11)
    assert not file.exists
    with file.writing() as put:
        put(torch.arange(6, dtype=torch.uint8).view(2, 3))
        put(torch.arange(6, 12, dtype=torch.uint8).view(2, 3))
    assert file.exists
    assert file.read(torch.tensor([3, 0])).tolist() == [[9, 10, 11], [0, 1, 2]]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"views": "fresh"}, "new views"),
        ({"teacher_source": "online"}, "the recipe says so"),
        ({"method": {"name": "response"}, "finetune": None}, "cannot be kept"),
        ({"teacher_bn": "train"}, "cannot be kept"),
    ],
)
def test_auto_asks_at_every_step_where_nothing_comes_again_and_says_why(
    make_bench: MakeBench, recipe: Recipe, changes: dict[str, Any], why: str
) -> None:
    bench = make_bench(recipe=recipe_of(recipe, **changes))
    bench.distill()
    (note,) = bench.events("note")
    assert note.code == "teacher.source"
    assert "asked at every step" in note.message
    assert why in note.message
    assert not (bench.workspace / FOLDER).exists()


def test_only_what_recurs_is_kept(make_bench: MakeBench, recipe: Recipe) -> None:
    mixed = Finetune(epochs=1, batch_size=40, mixup=0.2)
    bench = make_bench(recipe=recipe_of(recipe, finetune=mixed))
    bench.distill()
    assert {path.name.split("-")[0] for path in (bench.workspace / FOLDER).iterdir()} == {"signs"}


def test_no_room_is_told_or_refused(
    make_bench: MakeBench, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    setup = setup_of(make_bench("auto", recipe=recipe_of(recipe)))
    assert "room for 0.00 GiB" in (choose_answers(setup).why or "")
    setup = setup_of(make_bench("cached", recipe=recipe_of(recipe, teacher_source="cached")))
    with pytest.raises(Refusal) as refusal:
        choose_answers(setup)
    assert refusal.value.problem.code == "teacher_source.no_room"
    assert refusal.value.problem.where == "recipe.teacher_source"


def test_views_take_turns_and_without_a_teacher_are_always_new(recipe: Recipe) -> None:
    assert recipe_of(recipe, views="auto").num_views == 8
    assert recipe_of(recipe, views="auto", teacher_source="online").num_views is None
    alone = {"transfer": None, "finetune": Finetune(kd_weight=0, cross_entropy_weight=1)}
    assert recipe_of(recipe, views="auto", **alone).num_views is None
    still = Recipe.model_validate({"augmentation": {"crop_padding": 0, "horizontal_flip": False}})
    assert still.num_views == 1


def test_an_epochs_view_is_its_number_modulo_the_views(make_bench: MakeBench, recipe: Recipe) -> None:
    setup = setup_of(make_bench(recipe=recipe_of(recipe)))
    seen = [next(setup.training_batches(Transfer(batch_size=40), epoch, 0)).view for epoch in range(5)]
    assert seen == [View("train", number) for number in (0, 1, 2, 0, 1)]


def test_images_networks_and_kept_signs_lie_alike_in_memory(make_bench: MakeBench, recipe: Recipe) -> None:
    setup = setup_of(make_bench(recipe=recipe))
    batch = next(setup.training_batches(Transfer(batch_size=4), 0, 0))
    weight = next(weight for weight in setup.student.parameters() if weight.shape[-1] == 3 < weight.shape[1])
    answers = choose_answers(setup).transfer
    assert isinstance(answers, Cached)
    assert setup.teacher is not None
    with setup.teacher:
        boundaries = answers.boundaries(batch).boundaries
    assert boundaries
    for tensor in (weight, *boundaries):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()
    # One channel: both layouts are the same, so strides tell.
    assert batch.images.stride() == batch.images.contiguous(memory_format=torch.channels_last).stride()
