"""`/v1/recipes`: recipes to start from."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path

from abcore.specs.presets import PRESETS, PresetName
from abcore.specs.presets import Preset as PresetSpec
from abcore.specs.recipes import Recipe
from api.auth import Reader
from api.documentation import refusals
from api.schemas.base import Answer, Page
from store.errors import NotFound

router = APIRouter(prefix="/v1/recipes", tags=["recipes"])


class Preset(Answer):
    """A recipe by name, whole: `recipe` may be sent as a job's `recipe`, or `name` as its `preset`."""

    object: Literal["recipe"] = "recipe"
    name: PresetName
    description: str
    recipe: Recipe

    @classmethod
    def of(cls, preset: PresetSpec) -> "Preset":
        """Show a preset with every default filled in."""
        return cls(name=preset.name, description=preset.description, recipe=preset.recipe)


class PresetPage(Page[Preset]):
    """The list of presets."""


@router.get("", operation_id="list_recipes")
def list_(_: Reader) -> PresetPage:
    """List the presets: what each is for, and every field of its recipe."""
    return PresetPage(data=[Preset.of(preset) for preset in PRESETS.values()], has_more=False)


@router.get("/{name}", operation_id="get_recipe", responses=refusals(404))
def get(name: Annotated[str, Path(examples=["modern"])], _: Reader) -> Preset:
    """Show a preset."""
    if name not in PRESETS:
        raise NotFound("recipe", name)
    return Preset.of(PRESETS[name])
