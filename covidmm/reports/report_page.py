"""The report of runs, ensembles and data sets as one page: ``tools/report.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from covidmm.datasets.prepared_folder import PreparedFolder, PreparedSplit
from covidmm.datasets.unprepared import UNDIVIDED, read_data_folder
from covidmm.errors import CovidmmError, DataError
from covidmm.evaluation.classification import score_studies
from covidmm.reports.detections import OPTIMISTIC, Comparison, of_fused, of_run
from covidmm.reports.drawing import svg_key
from covidmm.reports.facts import Difference, config_difference, origin_facts, run_facts
from covidmm.reports.figures.class_figures import detector_figures
from covidmm.reports.figures.data_figures import AGE, SIZE, data_figures, header_table
from covidmm.reports.figures.result_figures import label_figures
from covidmm.reports.figures.style import Drawn
from covidmm.reports.figures.training_figures import training_figures
from covidmm.reports.looks import Look, role_legend
from covidmm.reports.overlays import Row, case_rows, class_looks, sheet
from covidmm.reports.pages import (
    Table,
    class_table,
    detector_table,
    finding_tables,
    label_table,
    render,
    slug,
    with_interval,
)
from covidmm.reports.runs import DAMAGES, Found, Fused, Run, find_file, find_runs, read_json
from covidmm.reports.sample_panels import sample_panels
from covidmm.utils.fileio import write_bytes

PAGE = "report.html"
_HEADERS = {
    "photometric": "photometric interpretation",
    "bits_stored": "bits stored",
    "transfer_syntax": "transfer syntax",
    "modality": "modality",
    "sex": "sex",
    AGE: "age, years",
    "view": "view",
    "body_part": "body part",
    "manufacturer": "manufacturer",
    SIZE: "size, pixels",
}
_VALUES = 12
Made = TypeVar("Made")


@dataclass
class Section:
    """A part of the page about one run, ensemble or data set; ``remarks`` say what is missing and why.

    ``looks`` is the legend of cases of several classes; those of one have the legend of the page.
    """

    title: str
    lead: str = ""
    tables: list[Table] = field(default_factory=list)
    figures: list[Drawn] = field(default_factory=list)
    cases: list[Row] = field(default_factory=list)
    looks: Sequence[tuple[str, Look]] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    changes: Sequence[Difference] | str = ()
    remarks: list[str] = field(default_factory=list)


@dataclass
class Page:
    """The page's chapters, and the figures that only files are made of."""

    results: list[Section] = field(default_factory=list)
    training: list[Section] = field(default_factory=list)
    data: list[Section] = field(default_factory=list)
    facts: list[Section] = field(default_factory=list)
    sheets: list[Drawn] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def data_alone(self) -> bool:
        """Whether no run was asked for, but data sets."""
        return bool(self.data) and not (self.results or self.training or self.facts)


def report(folders: Sequence[Path], data: Sequence[Path], out: Path) -> Path:
    """Write ``report.html`` and, beside it, every figure as SVG and its numbers as CSV.

    Args:
        folders: of trainings, tests and ensembles; none for a report of data sets alone.
        data: prepared folders to show besides those that the runs were tested on.
        out: the folder to write; made if missing.

    Returns:
        The page.

    Raises:
        DataError: none of the folders holds a run, none of the data sets can be read where there is no run, or
            ``out`` cannot be written. Anything else that is missing or
            damaged becomes a remark on the page.
    """
    found = find_runs(folders)
    if not found and (folders or not data):
        raise DataError("; ".join(found.remarks) or "no folder of a run and no data set was named")
    page = _collect(found, data)
    looks = _page_legend(page)
    if not found and not page.data:
        raise DataError("; ".join(page.remarks))
    drawn = [one for part in (page.results, page.training, page.data) for section in part for one in section.figures]
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        for one in [*drawn, *page.sheets]:
            write_bytes(out / "figures" / f"{slug(one.name)}.svg", one.file())
            write_bytes(out / "figures" / f"{slug(one.name)}.csv", one.csv())
        write_bytes(
            out / PAGE,
            render(
                "report.html.jinja",
                page=page,
                title=_title(found, page),
                slug=slug,
                legend=looks,
                svg_key=svg_key,
            ),
        )
    except OSError as error:
        raise DataError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from error
    for remark in page.remarks:
        print(f"note: {remark}")
    return out / PAGE


def _page_legend(page: Page) -> list[tuple[str, Look]]:
    """Of the sections whose boxes are of one class; nothing where there are none."""
    sections = [section for section in page.results if section.cases and not section.looks]
    crowds = any(len(row.image.truth.crowds) for section in sections for row in section.cases)
    return role_legend(crowds=crowds) if sections else []


def _collect(found: Found, data: Sequence[Path]) -> Page:
    page = Page(remarks=found.remarks)
    prepared = _prepared(found, data, page.remarks)
    splits = [split for one in prepared for split in one.splits.values()]
    for fused in found.fused:
        _add(page.results, fused.name, page, lambda fused=fused: _fused_section(fused, splits, page))
    for run in found.runs:
        if run.results:
            _add(page.results, run.name, page, lambda run=run: _run_section(run, splits, page))
        if run.train or run.val:
            _add(page.training, run.name, page, lambda run=run: Section(run.name, figures=training_figures(run)))
        _add(page.facts, run.name, page, lambda run=run: _facts_section(run))
    for one in found.fused:
        if one.provenance:
            _add(page.facts, one.name, page, lambda one=one: Section(one.name, facts=origin_facts(one.provenance)))
    page.data = [_data_section(one) for one in prepared]
    return page


def _add(chapter: list[Section], name: str, page: Page, make: Callable[[], Section]) -> None:
    """Add a section, or a remark where the files of a run are not as covidmm writes them."""
    remarks: list[str] = []
    if section := _try(make, remarks):
        chapter.append(section)
    page.remarks += [f"{name}: {remark}" for remark in remarks]


def _facts_section(run: Run) -> Section:
    return Section(run.name, facts=run_facts(run), changes=config_difference(run))


def _prepared(found: Found, data: Sequence[Path], remarks: list[str]) -> list[PreparedFolder]:
    """The given folders, then those that the runs were tested on, as far as they still exist."""
    folders = {folder.resolve(): folder for folder in data}
    for one in (*found.runs, *found.fused):
        origins = one.provenance.values() if isinstance(one, Run) else [one.provenance]
        for recorded in [str(origin["data"]) for origin in origins if "data" in origin]:
            if path := find_file(recorded, one.folder):
                folder = path.parent.parent if path.is_file() else path
                folders.setdefault(folder.resolve(), folder)
    made = (_try(lambda folder=folder: read_data_folder(folder), remarks) for folder in folders.values())
    return [one for one in made if one]


def _fused_section(fused: Fused, splits: Sequence[PreparedSplit], page: Page) -> Section:
    section = Section(fused.name, "Detectors and their ensemble on the same images.")
    if compared := _try(lambda: of_fused(fused, splits), section.remarks):
        _compare(section, compared, page)
    elif detectors := fused.metrics.get("detectors"):
        section.tables += [detector_table(detectors), *finding_tables(detectors, list(detectors)[-1])]
    if study := fused.metrics.get("study") or _studies(fused, compared):
        _label(section, fused.name, study)
    elif fused.studies:
        section.remarks.append(f"Studies were classified ({', '.join(fused.study_labels.names)}) and not scored.")
    else:
        section.remarks.append("No study was classified.")
    if competition := fused.metrics.get("competition"):
        section.lead += f" Score of the challenge's metric: {with_interval(competition, 'score')}."
    return section


def _run_section(run: Run, splits: Sequence[PreparedSplit], page: Page) -> Section:
    name, metrics = next(iter(run.results.items()))
    section = Section(run.name, f"{name} on {_evaluated(metrics, run.provenance[name])}.")
    if "mAP_50" in metrics:
        if compared := _try(lambda: of_run(run, splits), section.remarks):
            _compare(section, compared, page)
        else:
            section.tables += [detector_table(run.results), *finding_tables(run.results, name)]
    else:
        details = read_json(run.predictions, section.remarks) if run.predictions else {}
        _label(section, run.name, details if "per_class" in details else metrics)
    return section


def _evaluated(metrics: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """How many images, or cases, of which file a run was tested on."""
    counted = next((f"{metrics[unit]} {unit}" for unit in ("images", "cases") if metrics.get(unit) is not None), None)
    return f"{counted or 'the images'} of {origin.get('data', 'an annotation file that was not recorded')}"


def _threshold_remark(source: str, names: Sequence[str]) -> str:
    """Where the thresholds of some detectors come from; files and folders of tools/ensemble.py hold validation's."""
    of = f"The threshold{'s' * (len(names) > 1)} of {', '.join(names)}"
    if source == OPTIMISTIC:
        return f"{of} {'were' if len(names) > 1 else 'was'} not chosen on validation, but on {source}."
    return f"{of} come{'s' * (len(names) == 1)} from {source}."


def _compare(section: Section, compared: Comparison, page: Page) -> None:
    section.tables.append(detector_table(compared.metrics))
    section.tables += finding_tables(compared.metrics, compared.final, compared.images_per_class)
    by_source: dict[str, list[str]] = {}
    for name, metrics in compared.metrics.items():
        by_source.setdefault(metrics.get("threshold_source", "validation"), []).append(name)
    section.remarks += [
        _threshold_remark(source, names) for source, names in by_source.items() if source != "validation"
    ]
    section.figures += detector_figures(compared)
    section.cases = case_rows(compared)
    section.looks = class_looks(section.cases)
    if section.cases:
        page.sheets.append(sheet(compared, section.cases))


def _label(section: Section, name: str, details: Mapping[str, Any]) -> None:
    section.figures += label_figures(name, details)
    section.tables.append(label_table(details))
    if details.get("per_class"):
        section.tables.append(class_table(details["per_class"]))


def _studies(fused: Fused, compared: Comparison | None) -> Mapping[str, Any] | None:
    """Study metrics of SIIM's classes that no tool has written, where the truth is known."""
    truth = {one["study_id"]: one.get("study_class") for one in compared.images} if compared else {}
    known = {study: (str(name),) for study, name in truth.items() if name} if fused.study_labels.of_siim else {}
    return score_studies(known, fused.studies) if known and fused.studies else None


def _data_section(data: PreparedFolder) -> Section:
    rows = []
    for name, split in data.splits.items():
        studies = len({image.study_id for image in split.images})
        rows.append((name, str(len(split.images)), str(studies), str(sum(len(image.boxes) for image in split.images))))
    images = [image.coco for image in data.images]
    known = {key: label for key, label in _HEADERS.items() if key == SIZE or any(key in image for image in images)}
    counts = {label: _most(header_table(data, key)) for key, label in known.items()}
    missing = [label for key, label in _HEADERS.items() if key not in known]
    remarks = [f"Prepared before these were kept: {', '.join(missing)}."] if missing else []
    digest = data.manifest.get("data_sha256")
    lead = f"Layout {data.manifest.get('layout', 'unknown')}, sha256 {digest or 'unknown: no prepared.json'}."
    if data.reading is not None:
        lead = "Not prepared: its COCO files are read as tools/prepare.py coco reads them, its images as they are."
        remarks += [
            f"{len(own)} files or labels {what}, the first: {own[0].file}: {own[0].field}: {own[0].cause}."
            for what, own in data.reading._asdict().items()
            if own
        ]
        if UNDIVIDED in data.splits:
            remarks.append("No file is named after a split, so that nothing says which images train.")
    table = Table(("split", "images", "studies", "boxes"), rows)
    figures = [*data_figures(data), sample_panels(data)]
    return Section(data.name, lead, [table, *_boxes_by_class(data)], figures, counts=counts, remarks=remarks)


def _boxes_by_class(data: PreparedFolder) -> list[Table]:
    """Of several classes of boxes, how many each split has, and on how many images; nothing of one class."""
    names = list(dict.fromkeys(name for split in data.splits.values() for name in split.categories))
    if len(names) < 2:
        return []
    counts = {split: _box_counts(own) for split, own in data.splits.items()}
    rows = [
        (name, *(f"{own[name][0]} on {own[name][1]}" if name in own else "-" for own in counts.values()))
        for name in names
    ]
    return [Table(("class", *counts), rows, "Boxes of every class, and the images that they are on")]


def _box_counts(split: PreparedSplit) -> Mapping[str, tuple[int, int]]:
    """By class of boxes, how many there are, and on how many images."""
    boxes, images = Counter[str](), Counter[str]()
    for image in split.images:
        own = Counter(split.categories[label] for label in image.labels.tolist())
        boxes += own
        images.update(own.keys())
    return {name: (boxes[name], images[name]) for name in split.categories}


def _most(values: Mapping[str, int]) -> dict[str, int]:
    """The most frequent values, and how many others there are."""
    shown = dict(list(values.items())[:_VALUES])
    rest = sum(values.values()) - sum(shown.values())
    return shown | ({f"{len(values) - _VALUES} others": rest} if rest else {})


def _try(make: Callable[[], Made], remarks: list[str]) -> Made | None:
    """The result, or None and a remark: one bad folder must not spoil the page."""
    try:
        return make()
    except (CovidmmError, OSError, *DAMAGES) as error:
        known = isinstance(error, CovidmmError | OSError)
        remarks.append(str(error) if known else f"cannot be read: {type(error).__name__}: {error}")
        return None


def _title(found: Found, page: Page) -> str:
    names = [one.name for one in (*found.fused, *found.runs)] or [section.title for section in page.data]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
