"""Findings as DICOM Structured Reports that refer to the images they were made of (DICOM PS3.16, TID 1500).

One Comprehensive SR a study: a measurement group with a region for every box (TID 1410), and one without for every
study class and every image that no box was found on (TID 1501). Needs highdicom, of the extra ``dicom``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

import covidmm
from covidmm.errors import CovidmmError, RadiographError
from covidmm.findings import STUDY_CLASSES, ImageFindings, StudyFindings
from covidmm.utils.provenance import versions

# highdicom is an optional extra and takes, with pydicom's codes, half a second to import: functions import them
if TYPE_CHECKING:
    from highdicom.sr import AlgorithmIdentification
    from pydicom.sr.coding import Code

#: Said where a viewer shows it: the series' description and, coded, beside the study classes.
DISCLAIMER = "Research software, not a medical device"
#: Designator of the codes that no public scheme has: the four appearances (RSNA's wording) and the disclaimer.
SCHEME = "99COVIDMM"
_CLASS_MEANINGS = {
    "negative": "Negative for pneumonia",
    "typical": "Typical appearance of COVID-19 pneumonia",
    "indeterminate": "Indeterminate appearance of COVID-19 pneumonia",
    "atypical": "Atypical appearance of COVID-19 pneumonia",
}
#: Of the report's series: far from the numbers that equipment gives. Chosen here.
_SERIES_NUMBER = 9001
#: What links the report to its images; all else about the patient stays behind, empty where DICOM asks for a value.
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_LINKS = (*_NEEDED, "PatientID", "IssuerOfPatientID", "SpecificCharacterSet", "Modality")
_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
    "ReferringPhysicianName",
)


def available() -> bool:
    """Whether the extra ``dicom`` is installed."""
    return find_spec("highdicom") is not None


def study_report(
    findings: StudyFindings, sources: Sequence[Dataset], threshold: float, model: str, fingerprint: Sequence[str] = ()
) -> Dataset:
    """The Structured Report of one study.

    Regions are closed polylines in pixels of the source image, (0, 0) at the corner of its first pixel. Confidences
    and probabilities are percentages, 'Certainty of Finding'. The same findings give the same instance UID, so that
    an archive does not keep two reports of one run. Of the patient the report repeats the id alone.

    Args:
        findings: of the study; ``image_id`` of each readable image is its SOP Instance UID.
        sources: the headers of its images, pixels not needed.
        threshold: boxes of lower confidence are left out.
        model: what found them, for the reader.
        fingerprint: hashes of the model, as lines of :func:`covidmm.utils.provenance.hash_lines`.

    Returns:
        The report, to be written with ``save_as(path, enforce_file_format=True)``.

    Raises:
        CovidmmError: highdicom is not installed.
        RadiographError: a source lacks a UID, or sources are of several studies, or an image has no source, or a report
            cannot refer to a source, such as one of a private class.
    """
    if not available():
        raise CovidmmError("Structured Reports need highdicom: pip install 'covidmm[dicom]'")
    try:
        return _document(findings, sources, threshold, model, fingerprint)
    except (KeyError, ValueError, TypeError, AttributeError) as error:  # headers are not trusted
        cause = " ".join(str(error).split())
        raise RadiographError(f"study {findings.study_id}: no report can refer to its images ({cause})") from error


def _document(
    findings: StudyFindings, sources: Sequence[Dataset], threshold: float, model: str, fingerprint: Sequence[str]
) -> Dataset:
    from highdicom import sr
    from pydicom.sr.codedict import Code, codes

    by_uid = {str(source.get("SOPInstanceUID")): _linked(source) for source in sources}
    evidence = list(by_uid.values())
    if len({str(one.StudyInstanceUID) for one in evidence}) != 1:
        raise RadiographError(f"study {findings.study_id}: its images are of several studies, or there are none")
    for image in findings.images:
        if image.error is None and image.image_id not in by_uid:
            raise RadiographError(f"study {findings.study_id}: no source image has the UID {image.image_id}")
    stack = [f"{name} {version}" for name, version in versions().items()]
    seed = _seed(findings, sorted(by_uid), threshold, [model, *fingerprint, *stack])
    replaced = any(one.SOPInstanceUID != uid for uid, one in by_uid.items())
    algorithm = _algorithm(threshold, [f"model: {model}", *fingerprint], replaced)
    groups: list[Any] = []
    if findings.probabilities is not None:
        groups += _classes(findings, evidence, algorithm, seed)
    for image in findings.images:
        if image.error is None:
            groups += _boxes(image, by_uid[image.image_id], threshold, algorithm, seed)
    report = sr.MeasurementReport(
        observation_context=_observer(model),
        procedure_reported=Code("399208008", "SCT", "Plain X-ray of chest"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    document = sr.ComprehensiveSR(
        evidence=evidence,
        content=report,
        series_instance_uid=_uid(seed, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=_uid(seed, "report"),
        instance_number=1,
        manufacturer="covidmm",
        manufacturer_model_name=model[:64],
        software_versions=tuple(stack),
        series_description=f"covidmm. {DISCLAIMER}",
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    document.CodingSchemeIdentificationSequence = [_scheme()]
    return document


def _scheme() -> Dataset:
    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "covidmm"
    scheme.CodingSchemeVersion = covidmm.__version__
    return scheme


def _linked(source: Dataset) -> Dataset:
    """What the report needs of a source image."""
    for name in _NEEDED:
        if not source.get(name):
            raise RadiographError(f"a source image has no {name}: a report cannot refer to it")
    linked = Dataset()
    for name in _LINKS:
        if name in source:
            linked[name] = source[name]
    for name in _NEEDED:
        setattr(linked, name, _valid_uid(str(source.get(name))))
    for name in _EMPTY:
        setattr(linked, name, None)
    linked.PatientID = source.get("PatientID")
    return linked


def _valid_uid(value: str) -> str:
    return value if UID(value, validation_mode=0).is_valid else _uid([value], "replaced")


def _seed(findings: StudyFindings, uids: Sequence[str], threshold: float, fingerprint: Sequence[str]) -> list[str]:
    parts = [*uids, f"{threshold:.6f}", *fingerprint]
    for image in findings.images:
        parts += [image.image_id, str(image.fused.boxes.tolist()), str(image.fused.scores.tolist())]
    return [*parts, "" if findings.probabilities is None else str(findings.probabilities.tolist())]


def _uid(seed: Sequence[str], what: str) -> str:
    """A UID made of a UUID (PS3.5, B.2), the same for the same words."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join([*seed, what])).int}"


def _observer(model: str) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_uid(["device", covidmm.__version__, model], "device"),
        name=f"covidmm {covidmm.__version__}",
        manufacturer_name="covidmm",
        model_name=model,
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))


def _algorithm(threshold: float, model: Sequence[str], replaced: bool) -> AlgorithmIdentification:
    from highdicom import sr

    parameters = [*model, f"least confidence: {threshold:g}", DISCLAIMER]
    if replaced:
        parameters.append("the images' identifiers are no UIDs, and were replaced by UIDs made of them")
    return sr.AlgorithmIdentification("covidmm", covidmm.__version__, parameters)


def _certainty(score: float) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.Measurement(codes.DCM.CertaintyOfFinding, round(100 * float(score), 4), codes.UCUM.Percent)


def _classes(
    findings: StudyFindings, evidence: Sequence[Dataset], algorithm: AlgorithmIdentification, seed: Sequence[str]
) -> list[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    probabilities = np.asarray(findings.probabilities)
    predicted = int(probabilities.argmax())
    groups = []
    for index, (name, probability) in enumerate(zip(STUDY_CLASSES, probabilities, strict=True)):
        presence = codes.SCT.Present if index == predicted else codes.SCT.Absent
        remarks = [
            sr.QualitativeEvaluation(_private("predicted", "Predicted class"), presence),
            sr.QualitativeEvaluation(_private("use", "Intended use"), _private("research", DISCLAIMER)),
        ]
        finding = _private(name, _CLASS_MEANINGS[name])
        group = _group(f"study class {name}", finding, evidence, algorithm, seed, remarks, [_certainty(probability)])
        groups.append(group)
    return groups


def _group(
    name: str,
    finding: Code,
    sources: Sequence[Dataset],
    algorithm: AlgorithmIdentification,
    seed: Sequence[str],
    remarks: Sequence[Any],
    measurements: Sequence[Any] = (),
) -> Any:
    """A measurement group about whole images."""
    from highdicom import sr

    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(_uid(seed, f"{name} {sources[0].SOPInstanceUID}"), name),
        finding_type=finding,
        algorithm_id=algorithm,
        measurements=measurements or None,
        qualitative_evaluations=remarks,
        source_images=[sr.SourceImageForMeasurementGroup(one.SOPClassUID, one.SOPInstanceUID) for one in sources],
    )


def _boxes(
    image: ImageFindings,
    source: Dataset,
    threshold: float,
    algorithm: AlgorithmIdentification,
    seed: Sequence[str],
) -> list[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    found, groups = image.fused, []
    order = [index for index in np.argsort(-found.scores, kind="stable") if found.scores[index] >= threshold]
    if not order:
        remark = sr.QualitativeEvaluation(_private("found", "Found above the least confidence"), codes.SCT.Absent)
        return [_group("opacity", codes.DCM.Opacity, [source], algorithm, seed, [remark])]
    for number, index in enumerate(order, 1):
        x1, y1, x2, y2 = found.boxes[index].astype(float)
        corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
        region = sr.ImageRegion("POLYLINE", corners, sr.SourceImageForRegion(source.SOPClassUID, source.SOPInstanceUID))
        name = f"opacity {number}"
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(_uid(seed, f"{image.image_id} {name}"), name),
                referenced_region=region,
                finding_type=codes.DCM.Opacity,
                finding_sites=[sr.FindingSite(codes.SCT.Lung)],
                algorithm_id=algorithm,
                measurements=[_certainty(found.scores[index])],
            )
        )
    return groups


def _private(value: str, meaning: str) -> Code:
    from pydicom.sr.codedict import Code

    return Code(value, SCHEME, meaning)
