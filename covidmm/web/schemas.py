"""The types of the API's answers, of which the OpenAPI document is made."""

from __future__ import annotations

from pydantic import BaseModel, Field

from covidmm.reports import NOTICE


class Box(BaseModel):
    """One box, in pixels of the original image."""

    name: str = Field(description="Its class.")
    score: float = Field(ge=0, le=1)
    x: float
    y: float
    width: float
    height: float


class AttentionMap(BaseModel):
    """Grad-CAM of one image."""

    study_class: str = Field(description="The likeliest class of this image alone, which the map explains.")
    region: list[float] = Field(description="x1 y1 x2 y2 of what the map covers, as shares of width and height.")
    rows: list[list[float]] = Field(description="0..1, 1 where the network looked most.")


class Image(BaseModel):
    """One image, in the order of the upload."""

    number: int = Field(description="From 1, in the order of the upload.")
    width: int
    height: int
    fused: list[Box] = Field(description="The boxes of the choice, best first.")
    members: dict[str, list[Box]] = Field(description="The boxes of each detector that take part, best first.")
    notes: list[str] = Field(description="What was ignored, replaced or guessed when the file was read.")
    attention: AttentionMap | None = None


class StudyClasses(BaseModel):
    """The study-level classification."""

    predicted: str | None = Field(description="The likeliest class; None where several can hold.")
    present: list[str] = Field(description="The classes that are taken to hold: the likeliest, or all from 0.5.")
    multi_label: bool = Field(description="Whether any number of classes can hold instead of one.")
    probabilities: dict[str, float]


class Row(BaseModel):
    """A row of Kaggle's submission file."""

    id: str
    prediction: str


class Provenance(BaseModel):
    """Hashes and versions; the same for the same config, checkpoints and software."""

    config_resolved_sha256: str = Field(description="Of the config with its bases and overrides.")
    members: dict[str, dict[str, str | bool]] = Field(description="Hashes of each detector's config and checkpoint.")
    study_checkpoints_sha256: list[str] = Field(description="Of the study classifier's checkpoints, and the gate's.")
    versions: dict[str, str]


class Prediction(BaseModel):
    """What was found in one study."""

    notice: str = NOTICE
    version: str
    config: str
    detector: str
    strategy: str
    images: list[Image]
    study: StudyClasses | None = Field(description="None where the config has no study classifier.")
    submission: list[Row] = Field(description="The study is called 'study', its images 'image1', 'image2', ...")
    seconds: float = Field(description="From the decoded images to this answer, waiting not counted.")
    provenance: Provenance


class Choice(BaseModel):
    """A detector, or the ensemble of all."""

    name: str
    detectors: list[str]


class BoxColours(BaseModel):
    """How the boxes of one detector are drawn."""

    line: str
    text: str = Field(description="Of a score on a ground that has the colour of the line.")


class ClassLook(BaseModel):
    """How the boxes of one class are drawn."""

    name: str
    line: str
    text: str = Field(description="Of a name on a ground that has the colour of the line.")
    corners: list[tuple[float, float]] = Field(
        description="Points of a polygon around each corner of a box, in widths of a thin line; or none."
    )


class Models(BaseModel):
    """What this server offers."""

    notice: str = NOTICE
    version: str
    config: str
    choices: list[Choice]
    strategies: list[str] = Field(description="The config's first, with its numbers; others have defaults.")
    classes: list[str] = Field(description="Of boxes.")
    study_classes: list[str] = Field(description="Empty where the config has no study classifier.")
    colours: dict[str, BoxColours] = Field(description="Of boxes: of the choice, as 'ensemble', and of each detector.")
    looks: list[ClassLook] = Field(description="Of each class; empty where there is one, with the colours above.")
    attention: bool = Field(description="Whether Grad-CAM maps can be asked for.")
    structured_report: bool = Field(description="Whether DICOM Structured Reports can be asked for.")
    max_upload_bytes: int
    max_files: int
    provenance: Provenance


class Health(BaseModel):
    """The server is up, its models are loaded."""

    status: str = "ok"
