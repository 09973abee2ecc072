"""What a finished student says of some images."""

from typing import Annotated, Literal

from pydantic import Base64Bytes, ConfigDict, Field

from api.schemas.base import Answer, Body

MOST_IMAGES = 16
MOST_BODY_BYTES = 16 * 2**20
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="

ImageFile = Annotated[
    Base64Bytes,
    Field(
        min_length=1,
        max_length=MOST_BODY_BYTES,
        description="An image file, in base64: PNG, JPEG, BMP, GIF, TIFF, WEBP or PPM. One that has the size of the "
        "student's images is taken as it is; of others the middle is cut out and scaled, as a dataset's are.",
    ),
]


class PredictionCreate(Body):
    """Images to show to a student. The body may have 16 MiB."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"images": [PIXEL], "top": 3}]})

    images: list[ImageFile] = Field(min_length=1, max_length=MOST_IMAGES)
    top: int = Field(
        default=5, ge=1, le=100, description="How many classes of each image; all, if there are fewer."
    )


class PredictedClass(Answer):
    """A class, and how likely the student holds it to be."""

    index: int = Field(description="Of the class, as in the dataset's report.")
    name: str
    probability: float = Field(
        ge=0, le=1, description="By softmax of the logits: no promise that it is right."
    )


class Prediction(Answer):
    """What the student says of one image."""

    classes: list[PredictedClass] = Field(description="The likeliest first.")


class Predictions(Answer):
    """What a student says of the images, in the order of the request."""

    object: Literal["predictions"] = "predictions"
    job: str
    student_sha256: str = Field(description="Of `student.safetensors`, which was asked.")
    data: list[Prediction]
