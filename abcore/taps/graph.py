"""The autograd graph of one forward pass, read as a map of where information flows."""

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor
from torch.autograd.graph import Node

# Backward nodes of functions whose result cannot be negative.
_RECTIFIERS = frozenset(
    {"ReluBackward0", "SigmoidBackward0", "HardsigmoidBackward0", "SoftmaxBackward0", "AbsBackward0"}
)
# Backward nodes of functions whose result cannot be negative if none of their arguments is.
_KEEP_SIGN = frozenset(
    {
        "AdaptiveAvgPool2DBackward0",
        "AddBackward0",
        "AvgPool2DBackward0",
        "CatBackward0",
        "CloneBackward0",
        "MaxPool2DWithIndicesBackward0",
        "MeanBackward1",
        "MulBackward0",
        "NativeDropoutBackward0",
        "PermuteBackward0",
        "SliceBackward0",
        "SplitBackward0",
        "TransposeBackward0",
        "ViewBackward0",
    }
)


@dataclass
class FlowGraph:
    """Paths from an image to a network's logits.

    Attributes:
        num_paths: all of them. They grow exponentially with depth, so they are exact integers of any size.
    """

    num_paths: int
    _to_image: dict[Node, int]
    _from_logits: Counter[tuple[Node, int]]
    _rectified: dict[Node, bool] = field(default_factory=dict)

    @classmethod
    def trace(cls, logits: Tensor, image: Tensor) -> "FlowGraph":
        """Read the graph of `logits`; `image` is the only leaf with a gradient that they were computed from."""
        root = logits.grad_fn
        if root is None:
            return cls(0, {}, Counter())
        order = _topological(root)
        to_image: dict[Node, int] = {}
        for node in order:
            if not node.next_functions:
                to_image[node] = int(getattr(node, "variable", None) is image)
            else:
                to_image[node] = sum(to_image[below] for below, _ in node.next_functions if below is not None)
        from_logits: Counter[tuple[Node, int]] = Counter({(root, logits.output_nr): 1})
        reached: Counter[Node] = Counter({root: 1})
        for node in reversed(order):
            for below, output in node.next_functions:
                if below is not None:
                    from_logits[(below, output)] += reached[node]
                    reached[below] += reached[node]
        return cls(to_image[root], to_image, from_logits)

    def paths_through(self, node: Node | None, output: int) -> int:
        """How many of the paths run through a tensor: `output` is its number among the results of `node`."""
        if node is None:
            return 0
        return self._from_logits[(node, output)] * self._to_image.get(node, 0)

    def is_rectified(self, node: Node | None) -> bool:
        """Whether what `node` computed is known to be nowhere negative, whatever the image and the weights."""
        if node is None:
            return False
        if node not in self._rectified:
            self._rectified[node] = self._examine(node)
        return self._rectified[node]

    def _examine(self, node: Node) -> bool:
        kind = node.name()
        if kind in _RECTIFIERS:
            return True
        if kind == "HardtanhBackward0":
            return bool(getattr(node, "_saved_min_val", -1.0) >= 0)  # ReLU6 is hardtanh from 0 to 6
        # An argument without a node is a constant: nothing is known of its sign.
        return kind in _KEEP_SIGN and all(self.is_rectified(below) for below, _ in node.next_functions)


def _topological(root: Node) -> list[Node]:
    """All nodes that `root` depends on, each after those that it depends on itself."""
    order: list[Node] = []
    entered: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, left = stack.pop()
        if left:
            order.append(node)
        elif node not in entered:
            entered.add(node)
            stack.append((node, True))
            stack.extend((below, False) for below, _ in node.next_functions if below is not None)
    return order
