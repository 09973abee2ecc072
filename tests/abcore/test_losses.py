"""The losses against formulas written out independently, bit for bit where the method promises it."""

import math

import pytest
import torch
from torch import Tensor

from abcore.losses import activation_boundary_loss, boundary_similarity, cross_entropy, distillation_loss


def naive_boundary_terms(x: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Equation 7 of the paper, element by element, as it stands there."""
    off = (x + margin) ** 2 * ((x > -margin) & (teacher <= 0)).to(x.dtype)
    on = (x - margin) ** 2 * ((x <= margin) & (teacher > 0)).to(x.dtype)
    return off + on


def value_and_gradient(loss: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.detach(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [1.0, 0.3, 7.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 4, 2), (16, 24, 7, 9)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gradient_of_the_boundary_loss_is_the_papers_bit_for_bit(
    dtype: torch.dtype, margin: float, shape: tuple[int, ...], channels_last: bool
) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = (torch.randn(shape, dtype=dtype) * 2).contiguous(memory_format=layout).requires_grad_()
    teacher = torch.randn(shape, dtype=dtype).contiguous(memory_format=layout)
    scale = 3 / 1000
    ours = value_and_gradient(scale * activation_boundary_loss(x, teacher > 0, margin), x)
    terms = naive_boundary_terms(x, teacher, margin)
    written_out = value_and_gradient(scale * (terms.sum() / shape[0]), x)
    # The order of a sum is ours; what trains the student is the gradient.
    torch.testing.assert_close(ours[0], written_out[0], rtol=8 * torch.finfo(dtype).eps, atol=0)
    assert torch.equal(ours[1], written_out[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("teacher", [-1.0, -0.0, 0.0, 1e-30, 1.0])
def test_the_boundary_loss_agrees_at_every_edge(dtype: torch.dtype, teacher: float) -> None:
    margin = 0.1  # no binary fraction: rounding would show
    edge = torch.tensor(margin, dtype=dtype)
    above, below = (torch.nextafter(edge, torch.tensor(to, dtype=dtype)) for to in (math.inf, -math.inf))
    values = [edge, above, below, -edge, -above, -below, 0 * edge, edge * 1e6, -edge * 1e6, edge * 1e-30]
    for value in values:
        x = value.reshape(1, 1, 1, 1).clone().requires_grad_()
        t = torch.full_like(x, teacher)
        ours = value_and_gradient(activation_boundary_loss(x, t > 0, margin), x)
        written_out = value_and_gradient(naive_boundary_terms(x, t, margin).sum(), x)
        assert torch.equal(ours[0], written_out[0]), value
        assert torch.equal(ours[1], written_out[1]), value


def test_the_boundary_losss_gradient_is_its_derivative() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    teacher_on = torch.randn(2, 3, 4, 4) > 0
    assert torch.autograd.gradcheck(lambda x: activation_boundary_loss(x, teacher_on, 0.7), (x,))


def test_the_boundary_loss_is_zero_beyond_the_margin_on_the_right_side_only() -> None:
    x = torch.tensor([1.5, -1.5]).reshape(1, 2, 1, 1)
    assert activation_boundary_loss(x, x > 0, 1.0) == 0
    assert activation_boundary_loss(x, x < 0, 1.0) == 2 * 2.5**2


def test_half_precision_is_summed_in_single() -> None:
    torch.manual_seed(2)
    x = torch.randn(2, 64, 16, 16).bfloat16()
    teacher_on = torch.randn(2, 64, 16, 16) > 0
    loss = activation_boundary_loss(x, teacher_on, 1.0)
    assert loss.dtype == torch.float32
    exact = activation_boundary_loss(x.double(), teacher_on, 1.0)
    assert float(loss) == pytest.approx(
        float(exact), rel=5e-3
    )  # each term is rounded to 8 bits, their sum is not
    leaf = x.clone().requires_grad_()
    activation_boundary_loss(leaf, teacher_on, 1.0).backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == torch.bfloat16


def test_a_nan_is_not_hidden() -> None:
    x = torch.tensor([math.nan, 1.0]).reshape(1, 2, 1, 1)
    assert activation_boundary_loss(x, x > 0, 1.0).isnan()


def test_boundary_similarity_counts_neurons_on_the_same_side() -> None:
    x = torch.tensor([0.0, -1.0, 2.0, 3.0]).reshape(1, 4, 1, 1)
    teacher = torch.tensor([0.0, 1.0, 1.0, -1.0]).reshape(1, 4, 1, 1)
    assert boundary_similarity(x, teacher > 0) == 0.5  # zero is off, for both


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("squared", [False, True])
def test_distillation_is_the_divergence_of_softened_distributions(temperature: float, squared: bool) -> None:
    torch.manual_seed(3)
    student, teacher = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    expected = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(value / temperature) for value in t]
        q = [math.exp(value / temperature) for value in s]
        p, q = [value / sum(p) for value in p], [value / sum(q) for value in q]
        expected += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)) / 5
    expected *= temperature**2 if squared else 1
    loss = distillation_loss(student, teacher, temperature=temperature, temperature_squared=squared)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_distillation_gradient_is_its_derivative_and_spares_the_teacher() -> None:
    torch.manual_seed(4)
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda s: distillation_loss(s, teacher, temperature=3.0, temperature_squared=True), (student,)
    )
    loss = distillation_loss(student, teacher, temperature=3.0, temperature_squared=True)
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)
    assert distillation_loss(student, student, temperature=3.0, temperature_squared=True) == 0


def test_cross_entropy_is_the_mean_negative_log_probability() -> None:
    torch.manual_seed(5)
    logits, labels = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    rows = logits.tolist()
    expected = -sum(
        math.log(math.exp(row[label]) / sum(map(math.exp, row)))
        for row, label in zip(rows, labels.tolist(), strict=True)
    )
    assert float(cross_entropy(logits, labels)) == pytest.approx(expected / 4, rel=1e-12)
    assert cross_entropy(logits.bfloat16(), labels).dtype == torch.float32
