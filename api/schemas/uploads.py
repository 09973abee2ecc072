"""Teachers and datasets."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from abcore.specs.architectures import Architecture, ModelSpec, Normalization
from abcore.specs.presets import lay_over
from abcore.specs.recipes import Finetune, Recipe
from abcore.specs.refusals import Problem
from abcore.specs.reports import DatasetReport, TeacherReport
from abcore.specs.runs import Devices
from api.schemas.base import ONE_LINE, Answer, Body, Id, Name, Page, Time

UploadState = Literal["pending", "ready", "invalid"]

MODEL_EXAMPLE: JsonDict = {
    "architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
    "image": {"channels": 1, "height": 8, "width": 8},
    "num_classes": 10,
}


class TeacherCreate(Body):
    """Announces a teacher: which network its checkpoint is of. The checkpoint follows by `PUT .../content`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "digits teacher",
                    "model": MODEL_EXAMPLE,
                    "normalization": {"mean": [0.305], "std": [0.376]},
                }
            ]
        }
    )

    name: Name = Field(examples=["digits teacher"])
    model: ModelSpec = Field(examples=[MODEL_EXAMPLE])
    normalization: Normalization | None = Field(
        default=None,
        description="What its images were scaled with in training. Null: mean and deviation of the dataset that it is "
        "used with.",
    )


TRAIN_EXAMPLE: JsonDict = {
    "name": "digits teacher, made here",
    "dataset": "dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB",
    "architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
    "recipe": {"finetune": {"epochs": 20}},
}
_LABELS_ALONE = Recipe(transfer=None, finetune=Finetune(cross_entropy_weight=1.0, kd_weight=0.0))


class TeacherTrain(Body):
    """A teacher that the service trains: which network, on which dataset, and how."""

    model_config = ConfigDict(json_schema_extra={"examples": [TRAIN_EXAMPLE]})

    name: Name = Field(examples=["digits teacher, made here"])
    dataset: Id = Field(examples=["dst_01KAQ8Z0V6M2Y6E9N1T4C7R5WB"])
    architecture: Architecture = Field(examples=[{"arch": "wide_resnet", "depth": 16, "width": 2}])
    recipe: Recipe = Field(
        default=_LABELS_ALONE,
        examples=[{"finetune": {"epochs": 20}}],
        description="Laid over one that learns from labels alone. No field may ask a teacher.",
    )
    devices: int = Devices

    @model_validator(mode="before")
    @classmethod
    def _start_from_labels_alone(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or not isinstance(fields.get("recipe"), dict):
            return fields
        return {**fields, "recipe": lay_over(_LABELS_ALONE.model_dump(mode="json"), fields["recipe"])}


COMBINE_EXAMPLE: JsonDict = {
    "name": "two of them",
    "members": ["tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WB", "tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WC"],
}


class TeacherCombine(Body):
    """An ensemble of teachers that are there, as one teacher: it answers with the mean of their probabilities."""

    model_config = ConfigDict(json_schema_extra={"examples": [COMBINE_EXAMPLE]})

    name: Name = Field(examples=["two of them"])
    members: list[Id] = Field(
        min_length=2,
        max_length=16,
        examples=[["tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WB", "tch_01KAQ8Z0V6M2Y6E9N1T4C7R5WC"]],
        description="Ready teachers of the same images, classes and normalization. They may be deleted afterwards.",
    )


class DatasetCreate(Body):
    """Announces a dataset. Its archive follows by `PUT .../content`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "digits", "filename": "digits.npz", "holdout_fraction": 0.2}]
        }
    )

    name: Name = Field(examples=["digits"])
    filename: str = Field(
        min_length=1,
        max_length=255,
        pattern=ONE_LINE,
        examples=["digits.npz"],
        description="What the file is called, for messages; its format is found from its bytes.",
    )
    image_size: int | None = Field(
        default=None, ge=4, le=1024, description="Scale and centre-crop all images to this square, in pixels."
    )
    holdout_fraction: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of every class that is held out for testing where the upload has neither val nor test.",
    )


class Upload(Answer):
    """What teachers and datasets have in common."""

    id: str
    name: str
    state: UploadState = Field(
        description="`pending` until its content was verified, then `ready` or `invalid`."
    )
    state_detail: str | None = Field(description="What a pending one waits for.")
    upload_sha256: str | None = Field(description="Of the content as it came; null until it has come.")
    upload_bytes: int | None
    source: str | None = Field(description="Where the content is imported from; null where it was uploaded.")
    sha256: str | None = Field(description="Of the verified file that jobs use.")
    size_bytes: int | None
    problems: list[Problem] | None = Field(description="Why it is invalid.")
    created_at: Time
    updated_at: Time


class Teacher(Upload):
    """A trained network that students learn from."""

    object: Literal["teacher"] = "teacher"
    model: ModelSpec
    normalization: Normalization | None
    training_job_id: str | None = Field(
        description="The job that makes it, null for one that is uploaded; of one that is trained a job like any."
    )
    report: TeacherReport | None


class Dataset(Upload):
    """Labelled images."""

    object: Literal["dataset"] = "dataset"
    options: dict[str, str | int | float | None]
    report: DatasetReport | None


class TeacherPage(Page[Teacher]):
    """Part of a list of teachers."""


class DatasetPage(Page[Dataset]):
    """Part of a list of datasets."""
