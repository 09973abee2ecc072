"""Writes docs/methods.md from the specs themselves: `python docs/methods_page.py`."""

from pathlib import Path

from pydantic_core import PydanticUndefined

from abcore.specs import methods, recipes
from abcore.specs.base import Spec
from abcore.specs.presets import PRESETS

PAGE = Path(__file__).with_name("methods.md")
HEAD = """# Recipes and methods

A recipe decides, with teacher and dataset, which student comes out. Every field is here, with its default and its
source; "the paper" is Heo, Lee, Yun, Choi, AAAI 2019, arXiv 1811.03233, and "its code" what its authors published. This
page is made by `python docs/methods_page.py`.

A distillation has up to two phases. In `transfer` the student's body learns from the teacher's feature maps, without
labels, and its head is not even computed. In `finetune` it learns the task: from labels, from the teacher's logits, or
both. A method says what is compared at the taps, and in which of the phases. Losses are sums of named parts, and each
part is a metric of the job (`loss/kd`, `loss/ab/<tap>`).

Losses over feature maps are summed over a tap's neurons and averaged over the batch, as in the paper. Such a sum grows
with resolution and width, so a weight that suits one pair of networks does not suit another: where `weight` is null it
is normalised, and the paper's CIFAR setting is reproduced exactly.
"""
METHODS = (
    methods.ActivationBoundary,
    methods.Response,
    methods.KnowledgeDistillation,
    methods.FitNets,
    methods.AttentionTransfer,
    methods.FlowOfSolution,
    methods.JacobianMatching,
    methods.Overhaul,
)
PARTS = (
    recipes.Recipe,
    recipes.Transfer,
    recipes.Finetune,
    recipes.Optimizer,
    recipes.Schedule,
    recipes.Augmentation,
    recipes.Taps,
)


def page() -> str:
    """The page's text."""
    sections = [HEAD, "\n## Methods\n"]
    sections += [_section(f"`{spec.model_fields['name'].default}`", spec) for spec in METHODS]
    sections.append("\n## The recipe\n")
    sections += [_section(spec.__name__, spec) for spec in PARTS]
    sections.append("\n## Presets\n")
    for preset in PRESETS.values():
        fields = preset.recipe.model_dump_json(exclude_unset=True, indent=2)
        sections.append(f"\n### `{preset.name}`\n\n{preset.description}\n\n```json\n{fields}\n```\n")
    return "".join(sections)


def _section(title: str, spec: type[Spec]) -> str:
    text = "\n".join(line.strip() for line in (spec.__doc__ or "").strip().splitlines())
    phase = getattr(spec, "phase", None)
    acts = f"\nActs in `{phase}`.\n" if phase else ""
    fields = [
        (name, field) for name, field in spec.model_fields.items() if spec not in METHODS or name != "name"
    ]
    rows = [
        f"| `{name}` | {_default(field.get_default(call_default_factory=True))} | {field.description or ''} |\n"
        for name, field in fields
    ]
    table = "\n| field | default | meaning |\n|---|---|---|\n" + "".join(rows) if rows else ""
    return f"\n### {title}\n\n{text}\n{acts}{table}"


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Spec):
        return f"{type(value).__name__}"
    return "null" if value is None else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page())
