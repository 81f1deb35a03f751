"""Findings as DICOM Structured Reports that refer to the images they were made of (DICOM PS3.16, TID 1500).

One Comprehensive SR a study: a measurement group with a region for every box (TID 1410), and one without for every
study class and every image that no box was found on (TID 1501). What was noted when images were read are comments of
their groups, what concerns the study are comments of the report. Needs highdicom, of the extra ``dicom``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset

import covidmm
from covidmm.errors import ConfigError, CovidmmError, RadiographError
from covidmm.findings import OPACITY, ImageFindings, StudyFindings
from covidmm.outputs.dicom_identity import identity, linked, no_identity, secret_uid, uid_of, valid_uid
from covidmm.outputs.sr_codes import (
    KNOWN_CODES,
    SCHEME,
    SIIM_STUDY_CODES,
    ClassCode,
    code_of,
    private_code,
    private_scheme,
)
from covidmm.utils.provenance import versions

# highdicom is an optional extra and takes, with pydicom's codes, half a second to import: functions import them
if TYPE_CHECKING:
    from highdicom.sr import AlgorithmIdentification
    from pydicom.sr.coding import Code

#: Said where a viewer shows it: the series' description and, coded, beside the study classes.
DISCLAIMER = "Research software, not a medical device"
#: Of the report's series: far from the numbers that equipment gives. Chosen here.
_SERIES_NUMBER = 9001
#: Software Versions, all values with the backslashes between them: dcmtk's schema holds them to one long string (LO).
_VERSIONS_LENGTH = 64
#: Those that are named there first; the algorithm's parameters have all.
_FIRST_VERSIONS = ("covidmm", "highdicom", "torch")


def available() -> bool:
    """Whether the extra ``dicom`` is installed."""
    return find_spec("highdicom") is not None


def require_threshold(value: float, option: str) -> None:
    """Refuse a least confidence that is no number in 0..1.

    Raises:
        ConfigError: names the option.
    """
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ConfigError(f"{option}: expected a confidence in 0..1, got {value:g}")


def study_report(
    findings: StudyFindings,
    sources: Sequence[Dataset],
    threshold: float,
    model: str,
    fingerprint: Sequence[str] = (),
    *,
    deidentify: bool = False,
    replaces: Dataset | None = None,
    notes: Sequence[str] = (),
    class_codes: Mapping[str, ClassCode] | None = None,
) -> Dataset:
    """The Structured Report of one study, in Unicode (ISO_IR 192) whatever the images are written in.

    Regions are closed polylines in pixels of the source image, (0, 0) at the corner of its first pixel. Confidences
    and probabilities are percentages, 'Certainty of Finding'. The same findings give the same instance UID, so that
    an archive does not keep two reports of one run. Patient and study attributes are those of the images.

    Args:
        findings: of the study; ``image_id`` of each readable image is its SOP Instance UID. Notes of its images are
            comments of the report.
        sources: the headers of its images, pixels not needed.
        threshold: boxes of lower confidence are left out.
        model: what found them, for the reader.
        fingerprint: hashes of the model, as lines of :func:`covidmm.utils.provenance.hash_lines`.
        deidentify: leave patient and study attributes empty, and replace the UIDs of study, series and images by
            others, which are the same within this process.
        replaces: an earlier report of the study, which this one names as its predecessor.
        notes: comments on the study, without identifiers.
        class_codes: value, scheme and meaning of the code of a class, of boxes or of studies, by its name; one without
            gets a private code, and a comment says so. ``opacity`` and SIIM's study classes have theirs.

    Returns:
        The report, to be written with ``save_as(path, enforce_file_format=True)``.

    Raises:
        ConfigError: a threshold outside 0..1.
        CovidmmError: highdicom is not installed.
        RadiographError: a source lacks a UID, or sources are of several studies, or an image has no source, or a report
            cannot refer to a source, such as one of a private class.
    """
    if not available():
        raise CovidmmError("Structured Reports need highdicom: pip install 'covidmm[dicom]'")
    require_threshold(threshold, "threshold")
    try:
        named = {str(source.get("SOPInstanceUID")): source for source in sources}
        evidence = {uid: linked(one, secret_uid if deidentify else valid_uid) for uid, one in named.items()}
        _require_one_study(findings, evidence)
        attributes, remarks = (no_identity(), []) if deidentify else identity(list(named.values()))
        if not deidentify and any(one.SOPInstanceUID != uid for uid, one in evidence.items()):
            remarks.append("the images' identifiers are no UIDs, and were replaced by UIDs made of them")
        unread = sum(image.error is not None for image in findings.images)
        if unread:
            remarks.append(f"{unread} images of the study cannot be read: this report tells nothing of them")
        of_study = () if findings.probabilities is None else findings.study_labels.names
        coded = KNOWN_CODES | (SIIM_STUDY_CODES if findings.study_labels.of_siim else {}) | dict(class_codes or {})
        if lacking := [name for name in dict.fromkeys((*findings.classes, *of_study)) if name not in coded]:
            remarks.append(f"no public code was given for {', '.join(lacking)}: the codes of {SCHEME} are private")
        remarks += notes
        document = _document(findings, evidence, threshold, model, fingerprint, replaces, remarks, coded)
    except (KeyError, ValueError, TypeError, AttributeError) as error:  # headers are not trusted
        cause = " ".join(str(error).split())
        raise RadiographError(f"study {findings.study_id}: no report can refer to its images ({cause})") from error
    document.update(attributes)
    return document


def _require_one_study(findings: StudyFindings, evidence: Mapping[str, Dataset]) -> None:
    if len({str(one.StudyInstanceUID) for one in evidence.values()}) != 1:
        raise RadiographError(f"study {findings.study_id}: its images are of several studies, or there are none")
    for image in findings.images:
        if image.error is None and image.image_id not in evidence:
            raise RadiographError(f"study {findings.study_id}: no source image has the UID {image.image_id}")


def _document(
    findings: StudyFindings,
    by_uid: Mapping[str, Dataset],
    threshold: float,
    model: str,
    fingerprint: Sequence[str],
    replaces: Dataset | None,
    notes: Sequence[str],
    coded: Mapping[str, ClassCode],
) -> Dataset:
    from highdicom import sr
    from pydicom.sr.codedict import Code, codes

    evidence = list(by_uid.values())
    stack = [f"{name} {version}" for name, version in versions().items()]
    former = [] if replaces is None else [str(replaces.SOPInstanceUID)]
    uids = [str(one.SOPInstanceUID) for one in evidence]
    seed = _seed(findings, sorted(uids), threshold, [model, *fingerprint, *stack, *former])
    algorithm = _algorithm(threshold, [f"model: {model}", *fingerprint, f"versions: {', '.join(stack)}"])
    groups: list[Any] = []
    if findings.probabilities is not None:
        groups += _classes(findings, evidence, algorithm, seed, coded)
    kinds = [(name, code_of(name, coded)) for name in findings.classes]
    for image in findings.images:
        if image.error is None:
            of_image = _boxes(image, by_uid[image.image_id], threshold, algorithm, seed, kinds)
            _comment(of_image[0], image.notes)
            groups += of_image
    report = sr.MeasurementReport(
        observation_context=_observer(model),
        procedure_reported=Code("399208008", "SCT", "Plain X-ray of chest"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    _comment(report, notes)
    document = sr.ComprehensiveSR(
        evidence=evidence,
        content=report,
        series_instance_uid=uid_of(seed, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uid_of(seed, "report"),
        instance_number=1,
        manufacturer="covidmm",
        manufacturer_model_name=_plain(model)[:64],
        software_versions=_software_versions(),
        series_description=f"covidmm. {DISCLAIMER}",
        specific_character_set="ISO_IR 192",
        previous_versions=None if replaces is None else [replaces],
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    document.CodingSchemeIdentificationSequence = [private_scheme()]
    return document


def _software_versions() -> list[str]:
    """As many versions as fit, the most telling first; a value of more than 64 characters never does."""
    known = versions()
    chosen: list[str] = []
    for name in sorted(known, key=lambda one: one not in _FIRST_VERSIONS):
        value = f"{name} {known[name]}"
        if len("\\".join([*chosen, value])) <= _VERSIONS_LENGTH:
            chosen.append(value)
    return chosen


def _comment(container: Any, notes: Sequence[str]) -> None:
    """Add notes to the content of a container, as texts (TID 1500 and 1501 are extensible)."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    for note in notes:
        item = sr.TextContentItem(codes.DCM.Comment, _plain(note), sr.RelationshipTypeValues.CONTAINS)
        container[0].ContentSequence.append(item)


def _plain(text: str) -> str:
    """Text without what long strings and Unicode cannot hold."""
    return " ".join(text.replace("\\", "/").encode("utf-8", "replace").decode().split())


def _seed(findings: StudyFindings, uids: Sequence[str], threshold: float, fingerprint: Sequence[str]) -> list[str]:
    parts = [*uids, f"{threshold:.6f}", *fingerprint]
    for image in findings.images:
        parts += [image.image_id, str(image.fused.boxes.tolist()), str(image.fused.scores.tolist())]
        if findings.classes != OPACITY:
            parts += [*findings.classes, str(image.fused.labels.tolist())]
    labels = findings.study_labels
    if findings.probabilities is not None and not labels.of_siim:
        parts += ["several" if labels.multi_label else "one", *labels.names]
    return [*parts, "" if findings.probabilities is None else str(findings.probabilities.tolist())]


def _observer(model: str) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_of(["device", covidmm.__version__, model], "device"),
        name=f"covidmm {covidmm.__version__}",
        manufacturer_name="covidmm",
        model_name=model,
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))


def _algorithm(threshold: float, model: Sequence[str]) -> AlgorithmIdentification:
    from highdicom import sr

    parameters = [*model, f"least confidence: {threshold:g}", DISCLAIMER]
    return sr.AlgorithmIdentification("covidmm", covidmm.__version__, parameters)


def _certainty(score: float) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.Measurement(codes.DCM.CertaintyOfFinding, round(100 * float(score), 4), codes.UCUM.Percent)


def _classes(
    findings: StudyFindings,
    evidence: Sequence[Dataset],
    algorithm: AlgorithmIdentification,
    seed: Sequence[str],
    coded: Mapping[str, ClassCode],
) -> list[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    probabilities = np.asarray(findings.probabilities)
    labels = findings.study_labels
    predicted = labels.present(probabilities)
    groups = []
    for name, probability in zip(labels.names, probabilities, strict=True):
        presence = codes.SCT.Present if name in predicted else codes.SCT.Absent
        remarks = [
            sr.QualitativeEvaluation(private_code("predicted", "Predicted class"), presence),
            sr.QualitativeEvaluation(private_code("use", "Intended use"), private_code("research", DISCLAIMER)),
        ]
        finding, certainty = code_of(name, coded), [_certainty(probability)]
        group = _group(f"study class {name}", finding, evidence, algorithm, seed, remarks, certainty)
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
        tracking_identifier=sr.TrackingIdentifier(uid_of(seed, f"{name} {sources[0].SOPInstanceUID}"), name),
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
    kinds: Sequence[tuple[str, Code]],
) -> list[Any]:
    """Of each class, a group with a region for every box, or one that says that there is none."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    found, groups = image.fused, []
    order = [index for index in np.argsort(-found.scores, kind="stable") if found.scores[index] >= threshold]
    for label, (kind, code) in enumerate(kinds):
        if not any(found.labels[index] == label for index in order):
            remark = sr.QualitativeEvaluation(
                private_code("found", "Found above the least confidence"), codes.SCT.Absent
            )
            groups.append(_group(kind, code, [source], algorithm, seed, [remark]))
    numbers = [0] * len(kinds)
    for index in order:
        kind, code = kinds[found.labels[index]]
        numbers[found.labels[index]] += 1
        x1, y1, x2, y2 = found.boxes[index].astype(float)
        corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)])
        region = sr.ImageRegion("POLYLINE", corners, sr.SourceImageForRegion(source.SOPClassUID, source.SOPInstanceUID))
        name = f"{kind} {numbers[found.labels[index]]}"
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(uid_of(seed, f"{image.image_id} {name}"), name),
                referenced_region=region,
                finding_type=code,
                # of other classes nobody has said where they are
                finding_sites=[sr.FindingSite(codes.SCT.Lung)] if kind in OPACITY else None,
                algorithm_id=algorithm,
                measurements=[_certainty(found.scores[index])],
            )
        )
    return groups
