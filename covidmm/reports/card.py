"""The card of one model: intended use, origin, data, metrics, known limits and checklists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from covidmm.datasets.prepared_folder import PreparedFolder, read_prepared
from covidmm.errors import CovidmmError, DataError
from covidmm.evaluation.detection_details import by_class
from covidmm.findings import OPACITY, STUDY_CLASSES
from covidmm.models.checkpoints import checkpoint_store
from covidmm.reports.checklist import CLAIM, ROBERTS, Item, fill
from covidmm.reports.detections import of_run
from covidmm.reports.facts import parse_config
from covidmm.reports.pages import Table, detector_table, finding_tables, label_table, render
from covidmm.reports.runs import DAMAGES, Run, find_file, find_runs, read_json
from covidmm.utils.fileio import write_bytes

LIMITS = (
    "Never evaluated for clinical use, nor on any data but those named here.",
    "The public data sets come from few sources, often one per class, so a model can learn the source instead of the "
    "disease. tools/audit.py checks for that.",
    "Not evaluated on children, on views other than frontal, or on devices that are not in the data.",
)
PHANTOM = "Trained on phantoms, which are synthetic: its numbers say nothing about patients."
_PHANTOM_MAKER = "covidmm phantom"


@dataclass
class Card:
    """Everything on a card; ``remarks`` say what could not be found."""

    name: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    data: list[PreparedFolder] = field(default_factory=list)
    tables: list[tuple[str, Table]] = field(default_factory=list)
    limits: list[str] = field(default_factory=lambda: list(LIMITS))
    claim: list[Item] = field(default_factory=list)
    roberts: list[Item] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    classes: Sequence[str] = ()

    @property
    def subject(self) -> str:
        """What the model finds or classifies."""
        of_siim = not self.classes or set(self.classes) <= {*OPACITY, *STUDY_CLASSES}
        return "opacities" if of_siim else ", ".join(self.classes)


def write_card(target: str, folders: Sequence[Path], data: Sequence[Path], out: Path) -> list[Path]:
    """Write the card as Markdown and as HTML.

    Args:
        target: name of a published checkpoint, or a work dir.
        folders: where ensembles were scored with it, for their intervals.
        data: prepared folders, where those that it was trained on have moved.
        out: the folder to write; made if missing.

    Returns:
        The two files.

    Raises:
        DataError: there is no such checkpoint or work dir, or ``out`` cannot be written.
    """
    try:
        card = make_card(target, folders, data)
    except DAMAGES as error:
        cause = f"{type(error).__name__}: {error}"
        raise DataError(f"{target}: its files are not as covidmm writes them ({cause})") from error
    paths = [out / f"{card.name}.md", out / f"{card.name}.html"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, template in zip(paths, ("card.md.jinja", "card.html.jinja"), strict=True):
            write_bytes(path, render(template, card=card))
    except OSError as error:
        raise DataError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from error
    return paths


def make_card(target: str, folders: Sequence[Path] = (), data: Sequence[Path] = ()) -> Card:
    """Gather the facts of a card; see :func:`write_card`."""
    if Path(target).is_dir():
        published, run = _of_folder(Path(target))
    else:
        published, run = _of_name(target)
    tested = next(iter(run.results.values()), {}) if run else {}
    classes = published.get("classes") or list(tested.get("per_class", {}))
    card = Card(str(published["name"]), classes=[str(name) for name in classes])
    config = parse_config(str(published.get("config") or ""))
    wanted = [*data, *(path for one in published.get("data") or () if (path := find_file(one, run_place(run))))]
    for folder in dict.fromkeys(path.resolve() for path in wanted):
        try:
            card.data.append(read_prepared(folder))
        except CovidmmError as error:
            card.remarks.append(str(error))
    if not card.data:
        card.remarks.append(f"The data are not here: {', '.join(published.get('data') or ['none named'])}.")
    _measure(card, published, run, folders)
    phantom = any(image.coco.get("manufacturer") == _PHANTOM_MAKER for one in card.data for image in one.images)
    card.limits += [PHANTOM] if phantom else []
    card.facts = [(label, str(published[key])) for label, key in _SHOWN.items() if published.get(key) not in (None, "")]
    origin = _origin(published, run)
    card.facts += [(label, str(origin[key])) for label, key in _HASHES.items() if origin.get(key)]
    known = _known(published, config, card, run)
    card.claim, card.roberts = fill(CLAIM, known), fill(ROBERTS, known)
    return card


_SHOWN = {
    "experiment": "experiment",
    "part": "part",
    "weights, sha256": "sha256",
    "made from": "source",
    "epoch": "epoch",
    "seed": "seed",
    "published": "date",
}


#: Of a training's or a test's provenance; other chapters give the hash of the data where the folder is still there.
_HASHES = {"config with its bases and overrides, sha256": "config_resolved_sha256", "data, sha256": "data_sha256"}


def _origin(published: Mapping[str, Any], run: Run | None) -> Mapping[str, Any]:
    """The provenance of the training or, where its checkpoint has none, of its test."""
    return published.get("provenance") or (next(iter(run.provenance.values()), {}) if run else {})


def run_place(run: Run | None) -> Path:
    """Where the search for recorded files begins."""
    return run.folder if run else checkpoint_store()


def _of_name(name: str) -> tuple[dict[str, Any], Run | None]:
    name = name.removeprefix("covidmm://")
    path = checkpoint_store() / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(one.stem for one in path.parent.glob("*.json"))) or "none"
        raise DataError(f"{path}: no such checkpoint or work dir; published are: {there}")
    remarks: list[str] = []
    published = read_json(path, remarks)
    if remarks:
        raise DataError(remarks[0])
    folder = find_file(str(Path(str(published.get("source"))).parent), path)
    runs = find_runs([folder]).runs if folder and folder.is_dir() else []
    return {"name": name, **published}, runs[0] if len(runs) == 1 else None


def _of_folder(folder: Path) -> tuple[dict[str, Any], Run | None]:
    runs = find_runs([folder]).runs
    if len(runs) != 1:
        raise DataError(f"{folder}: holds {len(runs)} runs of one model each, expected one")
    run = runs[0]
    origin = next(iter(run.provenance.values()), {})
    epoch = re.search(r"epoch_(\d+)\.pth$", str(origin.get("checkpoint")))
    chosen = next((one for one in run.val if epoch and one.get("step") == int(epoch[1])), {})
    config = run.config.read_text() if run.config else ""
    data = str(Path(origin["data"]).parent.parent) if "data" in origin else None
    published = {
        "name": folder.resolve().name,
        "source": origin.get("checkpoint", str(folder)),
        "sha256": origin.get("checkpoint_sha256"),
        "experiment": run.config.stem if run.config else None,
        "validation": {key: value for key, value in chosen.items() if isinstance(value, int | float)},
        "epoch": chosen.get("step"),
        "seed": (parse_config(config).get("randomness") or {}).get("seed"),
        "config": config,
        "data": [data] if data else [],
    }
    return published, run


def _measure(card: Card, published: Mapping[str, Any], run: Run | None, folders: Sequence[Path]) -> None:
    """Tables of validation, of the test, and of the ensembles that it is a member of."""
    values = {key.split("/", 1)[1]: value for key, value in (published.get("validation") or {}).items() if "/" in key}
    title = "Validation, on which it was chosen"
    found = by_class(values, card.classes)
    of_each = {name: own for name, own in found.pop("per_class", {}).items() if own}
    if found:
        card.tables.append((title, Table(list(found), [[_rounded(value) for value in found.values()]])))
    if of_each:
        names = list(dict.fromkeys(key for own in of_each.values() for key in own))
        rows = [[name, *(_rounded(own.get(key)) for key in names)] for name, own in of_each.items()]
        card.tables.append((f"{title}, class by class", Table(["class", *names], rows)))
    validated = len(card.tables)
    if run and run.results:
        name, metrics = next(iter(run.results.items()))
        if run.provenance[name].get("checkpoint", "").rsplit("/", 1)[-1] != str(published["source"]).rsplit("/", 1)[-1]:
            card.remarks.append("The test in its work dir was of another checkpoint.")
        elif "mAP_50" in metrics:
            try:
                splits = [split for one in card.data for split in one.splits.values()]
                metrics = of_run(run, splits).metrics[name]
            except CovidmmError as error:
                card.remarks.append(f"No intervals: {error}")
            card.tables += _detection("Test", name, metrics)
        else:
            card.tables.append(("Test", label_table(metrics)))
    for fused in find_runs(folders).fused if folders else ():
        for member, made in (fused.provenance.get("members") or {}).items():
            if made.get("checkpoint_sha256") == published.get("sha256") and member in fused.metrics.get(
                "detectors", {}
            ):
                metrics = fused.metrics["detectors"][member]
                card.tables += _detection(f"As a member of {fused.name}", member, metrics)
    if len(card.tables) == validated:
        card.remarks.append("No test of this checkpoint was found.")


def _detection(title: str, name: str, metrics: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """The means of a detector, and of several classes a row each."""
    each = [(f"{title}, class by class", table) for table in finding_tables({name: metrics}, name)]
    return [(title, detector_table({name: metrics})), *each]


def _rounded(value: Any) -> str:
    """A number of a validation; numbers of images and boxes are whole."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value > 1 and float(value).is_integer() else f"{value:.3f}"


def _known(published: Mapping[str, Any], config: Mapping[str, Any], card: Card, run: Run | None) -> dict[str, str]:
    """The facts that checklist items are answered with; unknown ones are missing."""
    model = config.get("model") or {}
    facts = {
        "intended": "Research and teaching on chest radiographs. No clinical role.",
        "retrospective": PHANTOM if PHANTOM in card.limits else "Retrospective: published data sets.",
        "limits": " ".join(card.limits),
        "protocol": f"The config {published['experiment']} of covidmm, seed {published.get('seed')}."
        if published.get("experiment")
        else "",
    }
    if model:
        backbone = (model.get("backbone") or {}).get("type", "no backbone")
        facts["model"] = f"{model.get('type')} with {backbone}" + (
            f"; classes {', '.join(card.classes)}." if card.classes else "."
        )
        detects = any(key.startswith("detection/") for key in published.get("validation") or ())
        facts["task"] = f"Find {card.subject} as boxes." if detects else "Classify radiographs or studies."
        start = config.get("load_from") or config.get("pretrained") or (model.get("backbone") or {}).get("init_cfg")
        facts["initialization"] = f"From {start}." if start else "Random weights."
        optimizer = (config.get("optim_wrapper") or {}).get("optimizer") or {}
        loader = config.get("train_dataloader") or {}
        steps = [step.get("type") for step in (loader.get("dataset") or {}).get("pipeline") or ()]
        facts["training"] = (
            f"{optimizer.get('type')}, learning rate {optimizer.get('lr')}, "
            f"{(config.get('train_cfg') or {}).get('max_epochs')} epochs, batches of {loader.get('batch_size')}, "
            f"seed {(config.get('randomness') or {}).get('seed')}; pipeline {', '.join(map(str, steps))}. One model."
        )
        saved = ((config.get("default_hooks") or {}).get("checkpoint") or {}).get("save_best")
        facts["selection"] = f"The epoch of the best validation {saved}; no test data." if saved else ""
    if card.data:
        facts |= _known_data(card.data)
    if found := _origin(published, run).get("versions"):
        facts["software"] = ", ".join(f"{name} {version}" for name, version in found.items())
    tested = [title for title, _ in card.tables if not title.startswith("Validation")]
    if tested:
        facts["metrics"] = f"See the tables: {', '.join(tested)}; definitions in docs/results.md."
    if any("[" in cell for title, table in card.tables if title in tested for row in table.rows for cell in row):
        facts["uncertainty"] = facts["performance"] = "95 % bootstrap intervals over studies, in the tables."
    if len(tested) < len(card.tables):
        facts["validation"] = "Validation and, where there is one, test: in the tables. Training: not measured."
    if any(column.lower() == "ece" for _, table in card.tables for column in table.columns):
        facts["calibration"] = "Expected calibration error in the tables."
    return facts


def _known_data(data: Sequence[PreparedFolder]) -> dict[str, str]:
    counts = "; ".join(
        f"{one.name}: " + ", ".join(f"{name} {len(split.images)}" for name, split in one.splits.items()) for one in data
    )
    sizes = ", ".join(f"{one.name} at most {one.manifest.get('options', {}).get('max_size')} pixels" for one in data)
    people = []
    for one in data:
        for name, split in one.splits.items():
            sexes = Counter(image.coco.get("sex") or "not stated" for image in split.images)
            ages = [age for image in split.images if (age := image.coco.get("age")) is not None]
            age = f"median age {np.median(ages):.0f} of {len(ages)}" if ages else "age not stated"
            people.append(f"{one.name} {name}: {', '.join(f'{sex} {n}' for sex, n in sexes.most_common())}, {age}")
    return {
        "sources": ", ".join(f"{one.name}, layout {one.manifest.get('layout', 'unknown')}" for one in data) + ".",
        "preprocessing": f"8-bit grey PNG by tools/prepare.py, longer side of {sizes}.",
        "labels": "As published with the data set; docs/data.md says what is refused and what is clipped.",
        "splits": f"Images: {counts}.",
        "disjoint": "Studies, patients where the data name them, and found near-duplicates stay in one partition.",
        "demographics": "; ".join(people) + ".",
    }
