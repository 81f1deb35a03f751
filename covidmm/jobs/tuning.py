"""Choose a fusion on the validation split: a sweep with its table and picture, and a learned fusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from covidmm.ensembles.ensemble_config import EnsembleConfig
from covidmm.ensembles.fitting import fit
from covidmm.ensembles.sweep import Grid, sweep
from covidmm.ensembles.validation_images import FusionCase
from covidmm.inference.detector import select
from covidmm.jobs.folder_run import joined
from covidmm.jobs.folder_truth import Truth
from covidmm.outputs.predictions import Predictions
from covidmm.reports.figures.png_figures import draw_sweep
from covidmm.utils.csv_tables import csv_bytes
from covidmm.utils.fileio import write_bytes

SWEEP_TABLE, SWEEP_PICTURE, LEARNED = "sweep.csv", "sweep.png", "learned.json"
_SHOWN = 5
_FOLDS = 5


def fusion_cases(config: EnsembleConfig, members: Mapping[str, Predictions], truth: Truth) -> list[FusionCase]:
    """The readable images of a folder as cases for the choice of a fusion; images of one study belong together."""
    return [
        FusionCase(
            members=[select(one, config.members[name]) for name, one in found.items()],
            size=(image.height, image.width),
            truths=truth[image.image_id].original_boxes,
            group=image.study_id,
        )
        for image, found in joined(members)
        if not image.error
    ]


def tune(config: EnsembleConfig, members: Mapping[str, Predictions], truth: Truth, folder: Path) -> dict[str, Any]:
    """Sweep weighted boxes fusion and fit a learned one on validation predictions; prints and writes what it finds.

    Args:
        config: the ensemble.
        members: predictions of the validation split.
        truth: of the same images.
        folder: where ``sweep.csv``, ``sweep.png`` and ``learned.json`` go.

    Returns:
        The best row of the sweep, and the cross-validation of the learned fusion or None.

    Raises:
        DataError: images on which no fusion can be chosen.
    """
    cases = fusion_cases(config, members, truth)
    wbf = config.strategy if config.strategy["type"] == "wbf" else {}
    with tqdm(desc="sweep", unit="point", disable=None) as bar:
        rows = sweep(cases, Grid(final_nms=(wbf.get("final_nms"),)), _progress(bar))
    rows.sort(key=lambda row: -row["mAP_50"])
    write_bytes(folder / SWEEP_TABLE, _table(rows, list(members)))
    draw_sweep(rows, folder / SWEEP_PICTURE)
    print(f"\nweighted boxes fusion on {len(cases)} validation images, the best {_SHOWN} of {len(rows)} points:")
    print(_shown(rows[:_SHOWN], list(members)))
    return {"best": rows[0], "learned": _learn(config, members, cases, folder)}


def _learn(
    config: EnsembleConfig, members: Mapping[str, Predictions], cases: list[FusionCase], folder: Path
) -> dict[str, Any] | None:
    """Fit the learned fusion; None where too few studies have an opacity to cross-validate."""
    folds = min(_FOLDS, len({case.group for case in cases if len(case.truths)}))
    if folds < 2:
        print("learned fusion: not fitted, opacities in two studies are needed to cross-validate it")
        return None
    wbf = config.strategy if config.strategy["type"] == "wbf" else {}
    with tqdm(desc="learned fusion", unit="fit", disable=None) as bar:
        learned = fit(
            cases,
            list(members),
            weights=[member.weight for member in config.members.values()],
            iou_thr=wbf.get("iou_thr", 0.55),
            skip_box_thr=wbf.get("skip_box_thr", 0.0),
            final_nms=wbf.get("final_nms"),
            folds=folds,
            metadata={name: dict(one.fingerprint) for name, one in members.items()},
            progress=_progress(bar),
        )
    learned.write(folder / LEARNED)
    cross = dict(learned.cross_validation)
    print(
        f"learned fusion, {folds}-fold cross-validation: mAP@.50 {cross['learned_mAP_50']:.3f}, "
        f"the config's numbers {cross['plain_mAP_50']:.3f}; taken: {cross['chosen']}"
    )
    print(f"to use it: strategy = dict(_delete_=True, type='learned', parameters='{folder / LEARNED}')")
    return cross


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
    columns = [*(f"weight_{name}" for name in names), "iou_thr", "skip_box_thr", "mAP_50", "f1", "threshold"]
    lines = ["  ".join(name.rjust(max(len(name), 6)) for name in columns)]
    lines += ["  ".join(f"{row[name]:.3g}".rjust(max(len(name), 6)) for name in columns) for row in flat]
    return "\n".join(lines)
