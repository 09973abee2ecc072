"""How large an experiment is: from seconds in CI to the paper's own setting on a GPU."""

from dataclasses import dataclass
from typing import Any

ModelFields = dict[str, Any]


def wrn(depth: int, width: int) -> ModelFields:
    """A wide ResNet's spec, as a caller of the API would write it."""
    return {"arch": "wide_resnet", "depth": depth, "width": width}


@dataclass(frozen=True)
class Scale:
    """One size of all experiments.

    Attributes:
        teacher, student: the pair of all experiments that do not vary them.
        students: of the student-variety experiment, by what makes them smaller than the teacher.
        image_size: images are scaled to a square of this many pixels; None leaves them as they are.
        teacher_images, teacher_epochs: what the teacher learns from, and how long; None for all images.
        train_images, test_images: what students learn from and are measured on, classes in equal shares; None for all.
        transfer_epochs, finetune_epochs: of a method with two phases. A method with one has their sum, so that all arms
            of a comparison see as many images.
        budgets: total epochs of the learning-speed experiment, each a run of its own with a whole schedule.
        shares: of `train_images`, in the training-set-size experiment.
        margins: µ of the margin experiment.
        views: an image has, in the views experiment.
        batch_size, augmentation: of all runs.
        transfer_rate, finetune_rate: highest learning rates of the two phases.
    """

    teacher: ModelFields
    student: ModelFields
    students: dict[str, ModelFields]
    image_size: int | None
    teacher_images: int | None
    teacher_epochs: int
    train_images: int | None
    test_images: int | None
    transfer_epochs: int
    finetune_epochs: int
    budgets: tuple[int, ...]
    shares: tuple[float, ...]
    margins: tuple[float, ...]
    views: tuple[int | str, ...]
    batch_size: int
    transfer_rate: float
    finetune_rate: float
    augmentation: dict[str, Any]

    @property
    def epochs(self) -> int:
        """Epochs of a whole run."""
        return self.transfer_epochs + self.finetune_epochs


_SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
_MARGINS = (0.1, 0.3, 1.0, 3.0, 10.0)
_VIEWS = (1, 2, 4, 8, 16, "fresh")

SCALES = {
    "smoke": Scale(
        teacher=wrn(16, 1),
        student=wrn(10, 1),
        students={"depth": wrn(10, 1)},
        image_size=None,
        teacher_images=256,
        teacher_epochs=1,
        train_images=128,
        test_images=128,
        transfer_epochs=1,
        finetune_epochs=1,
        budgets=(2,),
        shares=(0.5, 1.0),
        margins=(1.0,),
        views=(1, "fresh"),
        batch_size=32,
        transfer_rate=0.1,
        finetune_rate=0.1,
        augmentation={"crop_padding": 1, "horizontal_flip": False},
    ),
    "cpu": Scale(
        teacher=wrn(16, 2),
        student=wrn(10, 1),
        students={
            "depth": wrn(10, 2),
            "width": wrn(16, 1),
            "both": wrn(10, 1),
            "other family": {"arch": "resnet_cifar", "depth": 8},
        },
        image_size=14,
        teacher_images=30_000,
        teacher_epochs=6,
        train_images=500,
        test_images=4_000,
        transfer_epochs=32,
        finetune_epochs=16,
        budgets=(6, 12, 24, 48, 96),
        shares=_SHARES,
        margins=_MARGINS,
        views=_VIEWS,
        batch_size=32,
        transfer_rate=0.2,
        finetune_rate=0.05,
        augmentation={"crop_padding": 1, "horizontal_flip": True},
    ),
    "gpu": Scale(
        teacher=wrn(22, 4),
        student=wrn(16, 2),
        students={
            "depth": wrn(10, 4),
            "width": wrn(22, 2),
            "both": wrn(16, 2),
            "other family": {"arch": "resnet_cifar", "depth": 20},
        },
        image_size=None,
        teacher_images=None,
        teacher_epochs=100,
        train_images=None,
        test_images=None,
        transfer_epochs=40,
        finetune_epochs=60,
        budgets=(10, 20, 40, 100),
        shares=_SHARES,
        margins=_MARGINS,
        views=_VIEWS,
        batch_size=128,
        transfer_rate=0.1,
        finetune_rate=0.1,
        augmentation={"crop_padding": 4, "horizontal_flip": True},
    ),
}
"""By the name that `--scale` takes."""
