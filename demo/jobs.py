"""What the demo asks of the service: how long a teacher trains, and the recipes of the two students."""

from dataclasses import dataclass
from typing import Any

TEACHER = {"arch": "wide_resnet", "depth": 16, "width": 2}
STUDENT = {"arch": "wide_resnet", "depth": 10, "width": 1}


@dataclass(frozen=True)
class Plan:
    """Epochs, the augmentation that suits the images, and the threads that the teacher's training gains from."""

    teacher_epochs: int
    transfer_epochs: int
    finetune_epochs: int
    augmentation: dict[str, Any]
    threads: int | None = None

    def distilled(self) -> dict[str, Any]:
        """First the teacher's boundaries, then its logits and the labels."""
        return {
            "transfer": {"epochs": self.transfer_epochs, "batch_size": 64},
            "finetune": {
                "epochs": self.finetune_epochs,
                "batch_size": 64,
                "cross_entropy_weight": 1.0,
                "kd_weight": 1.0,
            },
            "augmentation": self.augmentation,
        }

    def alone(self) -> dict[str, Any]:
        """The same number of epochs with cross-entropy on the labels, and no teacher."""
        epochs = self.transfer_epochs + self.finetune_epochs
        return {
            "transfer": None,
            "finetune": {
                "epochs": epochs,
                "batch_size": 64,
                "cross_entropy_weight": 1.0,
                "kd_weight": 0.0,
            },
            "augmentation": self.augmentation,
        }


# Handwritten digits are not flipped; at 8 pixels a shift by one is an eighth of the image. On images so small a second
# thread gains little, and on a machine with other work to do it costs much: the two wait for each other.
PLANS = {
    "digits": Plan(10, 12, 12, {"crop_padding": 1, "horizontal_flip": False}, threads=1),
    "fashion-mnist": Plan(6, 4, 8, {"crop_padding": 2, "horizontal_flip": True}),
}
