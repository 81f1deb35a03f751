"""What the application does, without HTTP: decode files in isolation, predict, and answer in the API's types."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom

import covidmm
from covidmm.engine.checkpointing import checkpoint_hashes
from covidmm.ensembles.ensemble_config import EnsembleConfig
from covidmm.errors import CovidmmError, RadiographError
from covidmm.findings import OPACITY, Detections, StudyFindings
from covidmm.inference.detector import fingerprint, select
from covidmm.inference.predictor import Predictor
from covidmm.inference.study_attention import Explainer, explainable
from covidmm.outputs import dicom_sr
from covidmm.outputs.dicom_identity import report_header
from covidmm.outputs.kaggle import prediction_string, ranked_row, study_row
from covidmm.radiograph import Radiograph
from covidmm.radiograph.sandbox import IsolatedReader
from covidmm.utils.provenance import hash_lines, versions
from covidmm.web import schemas
from covidmm.web.uploads import Upload

#: The choice of all members. No member may have its name.
ENSEMBLE = "ensemble"
_STUDY = "study"


@dataclass(frozen=True)
class Question:
    """What a request asks for.

    Attributes:
        detector: a member, or ``ensemble``.
        strategy: how boxes are fused; None as the config says.
        attention: whether Grad-CAM maps are computed.
    """

    detector: str = ENSEMBLE
    strategy: str | None = None
    attention: bool = False


class Service:
    """Decodes files and predicts with an ensemble, its members and other strategies.

    Args:
        predictor: the ensemble.
        reader: decodes uploaded files.

    Raises:
        CovidmmError: a config that cannot be served: a member called ``ensemble``, a rule without its classifier.
    """

    def __init__(self, predictor: Predictor, reader: IsolatedReader) -> None:
        if ENSEMBLE in predictor.detectors:
            raise CovidmmError(f"{predictor.config.path}: no member may be called '{ENSEMBLE}'")
        self.predictor, self.reader = predictor, reader
        self.none, self.rerank = predictor.config.rules()
        self.none.require_classifier(predictor.study_labels if predictor.classifier else None)
        ranked_row(Detections.none(), 0.5 if predictor.classifier else None, self.none, self.rerank)
        network = explainable(predictor.classifier)
        self.explainer = Explainer(network) if network else None
        self.strategies = predictor.strategies
        # read once: the models stay those that were loaded at the start
        self._fingerprints = {name: fingerprint(member) for name, member in predictor.config.members.items()}
        gate = predictor.config.gate.classifier if predictor.config.gate else None
        self._study = [*checkpoint_hashes(predictor.config.study), *checkpoint_hashes(gate)]
        self._versions = versions()
        self._variants = {
            (detector, strategy): predictor.variant(
                None if detector == ENSEMBLE else detector, {"type": strategy} if strategy else None
            )
            for detector in (ENSEMBLE, *predictor.detectors)
            for strategy in ((None, *self.strategies[1:]) if detector == ENSEMBLE else (None,))
        }

    @property
    def choices(self) -> dict[str, list[str]]:
        """Every choice and its detectors, the ensemble first."""
        return {ENSEMBLE: list(self.predictor.detectors), **{name: [name] for name in self.predictor.detectors}}

    @property
    def reports(self) -> bool:
        """Whether the extra for Structured Reports is installed."""
        return dicom_sr.available()

    def provenance(self, config: EnsembleConfig) -> schemas.Provenance:
        """Hashes and versions behind the answers of a config."""
        return schemas.Provenance(
            config_resolved_sha256=config.sha256,
            members={name: self._fingerprints[name] for name in config.members},
            study_checkpoints_sha256=self._study,
            versions=self._versions,
        )

    def decode(self, uploads: Sequence[Upload]) -> list[Radiograph]:
        """Decode files as the images of one study, shrunk as the config says; see :meth:`anonymous`.

        Raises:
            RadiographError: a file cannot be read or is refused, or they are of several studies.
        """
        found = [self.read(one) for one in uploads]
        studies = {one.header.study for one in found if one.header.study}
        if len(studies) > 1:
            raise RadiographError(f"the files are of {len(studies)} studies, send those of one study together")
        return [self.anonymous(number, one) for number, one in enumerate(found, 1)]

    def read(self, upload: Upload) -> Radiograph:
        """Decode one file.

        Raises:
            RadiographError: it cannot be read; a ``NotAcceptedError`` where the models are not made for it.
        """
        found = self.reader.read(upload.content, upload.name)
        self.predictor.config.accepts.check(found.header)
        return found

    def anonymous(self, number: int, one: Radiograph) -> Radiograph:
        """A radiograph shrunk as the config says; its header keeps size, modality, body part and view alone."""
        known, name = one.header, f"image{number}"
        header = type(known)(
            Path(name),
            known.height,
            known.width,
            study=_STUDY,
            image=name,
            modality=known.modality,
            body_part=known.body_part,
            view=known.view,
        )
        return replace(one, header=header).shrunk(self.predictor.config.max_size)

    def predict(self, question: Question, radiographs: Sequence[Radiograph]) -> schemas.Prediction:
        """Answer a question about decoded images of one study."""
        start = time.monotonic()
        variant, study = self._findings(question, radiographs)
        maps = [self.explainer(one) for one in radiographs] if question.attention and self.explainer else []
        images = []
        for number, found in enumerate(study.images, 1):
            images.append(
                schemas.Image(
                    number=number,
                    width=found.width,
                    height=found.height,
                    fused=_boxes(found.fused, study.classes),
                    members={
                        name: _boxes(select(boxes, variant.config.members[name]), study.classes)
                        for name, boxes in found.members.items()
                    },
                    notes=list(found.notes),
                )
            )
        for image, one in zip(images, maps, strict=False):
            rows = one.heat.round(3).tolist()
            image.attention = schemas.AttentionMap(study_class=one.study_class, region=list(one.region), rows=rows)
        return schemas.Prediction(
            version=covidmm.__version__,
            config=variant.config.path.name,
            detector=question.detector,
            strategy=str(variant.config.strategy["type"]),
            images=images,
            study=_classes(study),
            submission=self._submission(study),
            seconds=round(time.monotonic() - start, 4),
            provenance=self.provenance(variant.config),
        )

    def report(
        self,
        question: Question,
        radiographs: Sequence[Radiograph],
        uploads: Sequence[Upload],
        threshold: float,
        deidentify: bool = False,
    ) -> bytes:
        """The DICOM Structured Report of what :meth:`predict` finds, as a file.

        Raises:
            CovidmmError: a file is not DICOM, or has no UID to refer to.
        """
        headers = [_header(one) for one in uploads]
        return self.report_of_headers(question, radiographs, headers, threshold, deidentify=deidentify)

    def report_of_headers(
        self,
        question: Question,
        radiographs: Sequence[Radiograph],
        headers: Sequence[pydicom.Dataset],
        threshold: float,
        *,
        deidentify: bool = False,
        replaces: pydicom.Dataset | None = None,
        notes: Sequence[str] = (),
    ) -> bytes:
        """As :meth:`report`, of headers read before; see :func:`~covidmm.outputs.dicom_sr.study_report`."""
        variant, study = self._findings(question, radiographs)
        named = [
            replace(found, image_id=str(header.get("SOPInstanceUID", found.image_id)))
            for found, header in zip(study.images, headers, strict=True)
        ]
        dataset = dicom_sr.study_report(
            replace(study, study_id=str(headers[0].get("StudyInstanceUID", _STUDY)), images=named),
            headers,
            threshold,
            f"{variant.config.path.name}: {question.detector}",
            hash_lines(self.provenance(variant.config).model_dump()),
            deidentify=deidentify,
            replaces=replaces,
            notes=notes,
            class_codes=variant.config.class_codes,
        )
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()

    def _findings(self, question: Question, radiographs: Sequence[Radiograph]) -> tuple[Predictor, StudyFindings]:
        variant = self._variants[question.detector, question.strategy]
        (study,) = variant(list(radiographs))
        return variant, study

    def _submission(self, study: StudyFindings) -> list[schemas.Row]:
        labels, classified = study.study_labels, study.probabilities is not None
        negative = labels.negative_in(study.probabilities) if classified else None
        rows = []
        if labels.of_siim and (classified or study.classes == OPACITY):  # the challenge has no other study classes
            rows.append(schemas.Row(id=f"{_STUDY}_study", prediction=prediction_string(study_row(study.probabilities))))
        for found in study.images:
            row = ranked_row(found.fused, negative, self.none, self.rerank, study.classes)
            rows.append(schemas.Row(id=f"{found.image_id}_image", prediction=prediction_string(row)))
        return rows


def _boxes(found: Detections, classes: Sequence[str]) -> list[schemas.Box]:
    """Boxes best first; hundredths of a pixel and scores of six decimals, as in a submission."""
    order = (-found.scores).argsort(kind="stable")
    parts = found.boxes.astype(float), found.scores.astype(float), found.labels
    return [
        schemas.Box(
            name=classes[label],
            score=round(score, 6),
            x=round(x1, 2),
            y=round(y1, 2),
            width=round(x2 - x1, 2),
            height=round(y2 - y1, 2),
        )
        for (x1, y1, x2, y2), score, label in zip(*(part[order].tolist() for part in parts), strict=True)
    ]


def _classes(study: StudyFindings) -> schemas.StudyClasses | None:
    if study.probabilities is None:
        return None
    values = [round(float(value), 6) for value in study.probabilities]
    labels = study.study_labels
    present = labels.present(study.probabilities)
    return schemas.StudyClasses(
        predicted=None if labels.multi_label else present[0],
        present=list(present),
        multi_label=labels.multi_label,
        probabilities=dict(zip(labels.names, values, strict=True)),
    )


def _header(upload: Upload) -> pydicom.Dataset:
    """What a report needs of the header of a file that was decoded before."""
    try:
        return report_header(io.BytesIO(upload.content))
    except ValueError as error:
        raise CovidmmError(f"{upload.name}: {error}") from None
