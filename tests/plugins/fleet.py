"""Several machines of one service, and a job whose teacher's answers they may share."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from abcore.architectures import build_model
from abcore.data.dataset import ImageDataset, Split, save_dataset
from abcore.specs.architectures import ImageShape, ModelSpec, Normalization, WideResNet
from abcore.specs.recipes import Augmentation, Finetune, Recipe, Transfer
from abcore.specs.reports import DatasetReport, ModelDescription, SplitReport, TeacherReport
from abcore.specs.runs import DistillRun
from store import datasets, janitor, leases, shared_answers, teachers
from store.answer_models import SharedAnswers
from store.leases import NewArtifact
from store.models import DEFAULT_PROJECT, Job
from worker.tasks import Shift
from worker.workshop import Workshop

IMAGE = ImageShape(channels=1, height=8, width=8)
NORMALIZATION = Normalization(mean=(0.5,), std=(0.25,))
TEACHER = ModelSpec(
    architecture=WideResNet(arch="wide_resnet", depth=10, width=2), image=IMAGE, num_classes=2
)
FILES = 5
"""Signs of the held-out images; signs and logits of two views."""

SHORT = {"epochs": 2, "batch_size": 20}
RUN = DistillRun(
    student=WideResNet(arch="wide_resnet", depth=10, width=1),
    teacher=TEACHER,
    normalization=NORMALIZATION,
    recipe=Recipe(
        transfer=Transfer(**SHORT),
        finetune=Finetune(**SHORT),
        augmentation=Augmentation(crop_padding=1, horizontal_flip=False, views=2),
    ),
)
PATIENCE_SECONDS = 30.0


def verified_inputs(folder: Path) -> dict[str, bytes]:
    """A teacher and a dataset as verification leaves them."""
    torch.manual_seed(3)
    splits = {}
    for name, number in (("train", 60), ("test", 30)):
        images = torch.randint(0, 256, (number, 1, 8, 8), dtype=torch.uint8)
        splits[name] = Split(images, (images.float().mean((1, 2, 3)) > 127).long())
    report = DatasetReport(
        format="npz",
        image=IMAGE,
        classes=("0", "1"),
        splits={
            name: SplitReport(
                num_images=len(split), class_counts=tuple(split.labels.bincount(minlength=2).tolist())
            )
            for name, split in splits.items()
        },
        normalization=NORMALIZATION,
    )
    save_dataset(folder / "dataset", ImageDataset(splits, report))
    save_file(build_model(TEACHER).state_dict(), folder / "teacher")
    return {name: (folder / name).read_bytes() for name in ("teacher", "dataset")}


class Fleet:
    """Machines that have a database and a blob store in common, and no folder."""

    def __init__(self, house: Any, inputs: dict[str, bytes]) -> None:
        self.house = house
        self.inputs = inputs

    @contextmanager
    def machine(self, name: str, **settings: Any) -> Iterator[Workshop]:
        own = {"workspace_dir": self.house.folder / name, "share_answers": "on"} | settings
        workshop = Workshop.open(self.house.settings.model_copy(update=own))
        try:
            yield workshop
        finally:
            workshop.close()

    def work(self, name: str, job: Job, *, shared: int = FILES, **settings: Any) -> dict[str, int]:
        """Run all that waits on a machine, until so many files are shared; where the job's answers came from."""
        with self.machine(name, **settings) as workshop:
            Shift(workshop).work()
            self.wait_for(lambda: len(self.rows(job.project_id)) == shared)
        assert self.house.get(job).state == "succeeded", self.house.get(job).problems
        (note,) = [
            event.data
            for event in self.house.events(job)
            if event.type == "note" and event.data["code"] == "teacher.answers"
        ]
        return dict(note["details"])

    def submit(self, project_id: str = DEFAULT_PROJECT) -> Job:
        """A distillation of the same teacher on the same dataset."""
        ids = {kind: self._ready(kind, project_id) for kind in ("teacher", "dataset")}
        return self.house.submit(
            run=RUN, project_id=project_id, teacher_id=ids["teacher"], dataset_id=ids["dataset"]
        )

    def rows(self, project_id: str = DEFAULT_PROJECT) -> Sequence[SharedAnswers]:
        group = hashlib.sha256(
            "\n".join(
                (
                    project_id,
                    *(hashlib.sha256(self.inputs[kind]).hexdigest() for kind in ("teacher", "dataset")),
                )
            ).encode()
        ).hexdigest()[:32]
        return shared_answers.find(self.house.db, project_id, group)

    def student(self, job: Job) -> str:
        return str(self.house.files(job)["student.safetensors"].sha256)

    def wait_for(self, fulfilled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not fulfilled():
            assert time.monotonic() < deadline, self.rows()
            time.sleep(0.05)

    def clean(self, **changes: Any) -> janitor.Cleaned:
        usual = {
            "every_seconds": 0.0,
            "orphan_seconds": 0.0,
            "audit_seconds": 1e9,
            "answers_seconds": 1e9,
            "answers_bytes": 2**40,
        }
        return janitor.clean(self.house.db, self.house.blobs, **usual | changes)

    def _ready(self, kind: str, project_id: str) -> str:
        db = self.house.db
        of = {"teacher": teachers, "dataset": datasets}[kind]
        what = {"teacher": {"model": TEACHER}, "dataset": {"filename": "digits.npz"}}[kind]
        row = of.create(db, project_id, name=kind, **what)
        of.attach_upload(db, project_id, row.id, f"uploads/{row.id}/1", "1" * 64, 3)
        lease = leases.claim(db, "setup", 60.0)
        assert lease is not None
        key = f"{kind}s/{row.id}/{kind}.safetensors"
        content = self.inputs[kind]
        sha256 = self.house.put(key, content)
        file = NewArtifact(f"{kind}.safetensors", kind, "application/octet-stream", len(content), sha256, key)
        leases.finish(db, lease, _report(kind), [file])
        return str(row.id)


def _report(kind: str) -> TeacherReport | DatasetReport:
    if kind == "teacher":
        description = ModelDescription(spec=TEACHER, num_parameters=1, num_macs=1, size_bytes=4, taps=())
        return TeacherReport(description=description, format="torch", dtype="float32")
    return DatasetReport(
        format="npz",
        image=IMAGE,
        classes=("0", "1"),
        splits={"train": SplitReport(num_images=60, class_counts=(30, 30))},
        normalization=NORMALIZATION,
    )
