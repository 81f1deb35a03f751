"""Choose a fusion on the validation split: a sweep with its table and picture, and a learned fusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from covidmm.ensembles.ensemble_config import EnsembleConfig
from covidmm.ensembles.fitting import fit, plain_parameters
from covidmm.ensembles.learned import write_learned
from covidmm.ensembles.sweep import Grid, sweep
from covidmm.ensembles.validation_images import ClassCases, FusionCase
from covidmm.errors import DataError
from covidmm.inference.detector import select
from covidmm.inference.ensemble_classes import EnsembleClasses
from covidmm.jobs.folder_run import joined
from covidmm.jobs.folder_truth import Truth
from covidmm.outputs.predictions import Predictions
from covidmm.reports.figures.png_figures import draw_sweep
from covidmm.utils.csv_tables import csv_bytes
from covidmm.utils.fileio import write_bytes

SWEEP_TABLE, SWEEP_PICTURE, LEARNED = "sweep.csv", "sweep.png", "learned.json"
_SHOWN = 5
_FOLDS = 5


def fusion_cases(
    config: EnsembleConfig, classes: EnsembleClasses, members: Mapping[str, Predictions], truth: Truth
) -> dict[str, ClassCases]:
    """By class, the readable images of a folder as cases for the choice of its fusion.

    Images of one study belong together. A class without a true box is left out.
    """
    images = [(image, found) for image, found in joined(members) if not image.error]
    chosen = [{name: select(one, config.members[name]) for name, one in found.items()} for _, found in images]
    made = {}
    for label, name in enumerate(classes.names):
        voters = classes.voters(label, tuple(members))
        boxes = [truth[image.image_id].original_truth for image, _ in images]
        cases = [
            FusionCase(
                members=[found[voter].of([label]) for voter in voters],
                size=(image.height, image.width),
                truths=true.boxes[true.labels == label],
                group=image.study_id,
            )
            for (image, _), found, true in zip(images, chosen, boxes, strict=True)
        ]
        if any(len(case.truths) for case in cases):
            made[name] = ClassCases(voters, cases)
    return made


def tune(
    config: EnsembleConfig,
    classes: EnsembleClasses,
    members: Mapping[str, Predictions],
    truth: Truth,
    folder: Path,
) -> dict[str, Any]:
    """Sweep weighted boxes fusion and fit a learned one on validation predictions; prints and writes what it finds.

    Args:
        config: the ensemble.
        classes: what it finds, and which members find what.
        members: predictions of the validation split.
        truth: of the same images.
        folder: where ``sweep.csv``, ``sweep.png`` and ``learned.json`` go.

    Returns:
        The best row of the sweep, and by class the cross-validation of the learned fusion, as far as it was fitted.

    Raises:
        DataError: images on which no fusion can be chosen.
    """
    cases = fusion_cases(config, classes, members, truth)
    if not cases:
        raise DataError("a fusion cannot be chosen on images of which none has a true box")
    if rest := [name for name in classes.names if name not in cases]:
        print(f"note: no part in the choice, without a true box in validation: {', '.join(rest)}")
    wbf = config.strategy if config.strategy["type"] == "wbf" else {}
    with tqdm(desc="sweep", unit="point", disable=None) as bar:
        rows = sweep(cases, list(members), Grid(final_nms=(wbf.get("final_nms"),)), _progress(bar))
    rows.sort(key=lambda row: -row["mAP_50"])
    write_bytes(folder / SWEEP_TABLE, _table(rows, list(members)))
    draw_sweep(rows, folder / SWEEP_PICTURE)
    images = len(next(iter(cases.values())).cases)
    print(f"\nweighted boxes fusion on {images} validation images, the best {_SHOWN} of {len(rows)} points:")
    print(_shown(rows[:_SHOWN], list(members)))
    return {"best": rows[0], "learned": _learn(config, classes, members, cases, folder)}


def _learn(
    config: EnsembleConfig,
    classes: EnsembleClasses,
    members: Mapping[str, Predictions],
    cases: Mapping[str, ClassCases],
    folder: Path,
) -> dict[str, Any]:
    """Fit the learned fusion of each class; one of too few studies to cross-validate keeps the config's numbers."""
    enough = {name: one for name, one in cases.items() if one.groups_with_boxes > 1}
    if not enough:
        print("learned fusion: not fitted, true boxes in two studies are needed to cross-validate it")
        return {}
    wbf = config.strategy if config.strategy["type"] == "wbf" else {}
    numbers = {key: wbf[key] for key in ("iou_thr", "skip_box_thr", "final_nms") if key in wbf}
    fitted, metadata = {}, {name: dict(one.fingerprint) for name, one in members.items()}
    for label, name in enumerate(classes.names):
        voters = classes.voters(label, tuple(members))
        weights = [config.members[voter].weight for voter in voters]
        if name not in enough:
            fitted[name] = plain_parameters(voters, 0, weights, **numbers)
            print(f"learned fusion of {name}: the config's numbers, too few studies have one to cross-validate")
            continue
        folds = min(_FOLDS, enough[name].groups_with_boxes)
        with tqdm(desc=f"learned fusion of {name}", unit="fit", disable=None) as bar:
            fitted[name] = fit(
                enough[name].cases,
                voters,
                weights=weights,
                folds=folds,
                metadata=metadata,
                progress=_progress(bar),
                **numbers,
            )
        cross = fitted[name].cross_validation
        print(
            f"learned fusion of {name}, {folds}-fold cross-validation: AP@.50 {cross['learned_mAP_50']:.3f}, "
            f"the config's numbers {cross['plain_mAP_50']:.3f}; taken: {cross['chosen']}"
        )
    write_learned(folder / LEARNED, fitted)
    print(f"to use it: strategy = dict(_delete_=True, type='learned', parameters='{folder / LEARNED}')")
    return {name: dict(one.cross_validation) for name, one in fitted.items() if one.cross_validation}


def _progress(bar: tqdm) -> Any:
    def update(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return update


def _flat(row: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    weights = {f"weight_{name}": value for name, value in zip(names, row["weights"], strict=True)}
    return {**{key: value for key, value in row.items() if key != "weights"}, **weights}


def _table(rows: list[dict[str, Any]], names: list[str]) -> bytes:
    flat = [_flat(row, names) for row in rows]
    return csv_bytes(list(flat[0]), (row.values() for row in flat))


def _shown(rows: list[dict[str, Any]], names: list[str]) -> str:
    flat = [_flat(row, names) for row in rows]
    own = [key for key in ("threshold",) if key in flat[0]]
    columns = [*(f"weight_{name}" for name in names), "iou_thr", "skip_box_thr", "mAP_50", "f1", *own]
    lines = ["  ".join(name.rjust(max(len(name), 6)) for name in columns)]
    lines += ["  ".join(f"{row[name]:.3g}".rjust(max(len(name), 6)) for name in columns) for row in flat]
    return "\n".join(lines)
