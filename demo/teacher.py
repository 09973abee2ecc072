"""A teacher, trained as anyone trains one: a plain PyTorch loop that knows nothing of the service."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from abcore.specs.architectures import Normalization
from demo.data import Data, Images

BATCH_SIZE = 64
LEARNING_RATE = 0.1
Say = Callable[[str], None]


def to_input(images: Images, normalization: Normalization) -> Tensor:
    """uint8 images (N, H, W) as the normalised float32 batch (N, 1, H, W) that the networks take."""
    (mean,), (std,) = normalization.mean, normalization.std
    return ((torch.from_numpy(images).float() / 255 - mean) / std).unsqueeze(1)


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is the label's, 0..1."""
    model.eval()
    predictions = torch.cat([model(batch).argmax(1) for batch in torch.split(inputs, 512)])
    return (predictions == labels).float().mean().item()


def train(model: nn.Module, data: Data, *, epochs: int, path: Path, say: Say) -> float:
    """Train with SGD and a one-cycle rate, print each epoch, save the state dict, return the test accuracy."""
    inputs, labels = to_input(data.train_images, data.normalization), torch.from_numpy(data.train_labels)
    test_inputs, test_labels = (
        to_input(data.test_images, data.normalization),
        torch.from_numpy(data.test_labels),
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    steps = epochs * (len(inputs) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    top1 = 0.0
    for epoch in range(epochs):
        started = time.monotonic()
        model.train()
        losses = []
        for batch in torch.split(torch.randperm(len(inputs)), BATCH_SIZE):
            if len(batch) < BATCH_SIZE:
                continue
            loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        top1 = accuracy(model, test_inputs, test_labels)
        seconds = time.monotonic() - started
        mean_loss = sum(losses) / len(losses)
        say(
            f"epoch {epoch + 1:>2}/{epochs}  loss {mean_loss:.4f}  test accuracy {top1:6.2%}  {seconds:.1f} s"
        )
    torch.save(model.state_dict(), path)
    return top1
