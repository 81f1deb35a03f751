"""Cross-validated AUROC of a linear classifier on a few features, with a permutation test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.linear_model import Ridge

from covidmm.audit.checks import Level, Table

# Chosen here. With 1,999 permutations the least p is 0.0005; with p <= 0.001 about one clean data set in a hundred
# has a false alarm somewhere among its checks.
PERMUTATIONS = 1999
MAX_P = 0.001
#: A warning also needs the lower end of the AUROC's 95 % interval to be at least this; on a clean
#: set of phantoms a border came to 0.57 by chance.
MIN_AUROC = 0.6
#: And where it is at least this, the class is written on the image: a fault.
OVERWHELMING = 0.9
#: A class is tested where it has this many images of different patients, and so have the others together.
MIN_IMAGES = 15
#: More images than this are drawn down to it: the estimate is precise enough by then.
MAX_IMAGES = 4000
_FOLDS = 5
_CHUNK = 50


@dataclass(frozen=True)
class ClassScore:
    """One class against all others: cross-validated AUROC, its 95 % interval, and positives of all images."""

    name: str
    auroc: float
    low: float
    high: float
    positives: int


@dataclass(frozen=True)
class Association:
    """How well features predict classes.

    Attributes:
        images: number of images used, one per patient.
        classes: those that could be tested.
        p: permutation p-value of the most predictable class, corrected for looking at all of them; 1 where no
            class could be tested.
    """

    images: int
    classes: tuple[ClassScore, ...]
    p: float

    @property
    def best(self) -> ClassScore | None:
        """The class with the highest lower end, None where none could be tested."""
        return max(self.classes, key=lambda one: one.low, default=None)

    def level(self) -> Level:
        """OK, WARNING or FAULT by the rule of docs/audit.md."""
        if self.best is None or self.p > MAX_P or self.best.low < MIN_AUROC:
            return Level.OK
        return Level.FAULT if self.best.low >= OVERWHELMING else Level.WARNING

    def numbers(self) -> dict:
        """For ``audit.json``."""
        return {"images": self.images, "p": self.p, "classes": {one.name: _numbers(one) for one in self.classes}}

    def table(self, name: str) -> tuple[Table, ...]:
        """Every class that was tested, the most predictable first; nothing of two or fewer, which are one question."""
        rows = sorted(self.classes, key=lambda one: -one.low)
        columns = ("class", "positives", "auroc", "low", "high")
        values = [(one.name, one.positives, *(round(v, 4) for v in (one.auroc, one.low, one.high))) for one in rows]
        return (Table(name, columns, values),) if len(rows) > 2 else ()

    def text(self) -> str:
        """For one line."""
        if self.best is None:
            return f"not tested: nothing that varies, or no two classes with {MIN_IMAGES} patients each"
        one = self.best
        return f"{one.name}: AUROC {one.auroc:.2f} ({one.low:.2f} to {one.high:.2f}), p {self.p:.4f}"


def associate(
    features: NDArray[np.floating], labels: Sequence[Sequence[str]], groups: Sequence[str], seed: int = 0
) -> Association:
    """Fit ridge regressions of each class on four fifths of the patients, and rank the others.

    One image per group is used, so that images are independent and labels may be permuted. The test is a
    max-T permutation test (Westfall & Young, 1993) over the classes, folds fixed; the interval is DeLong's
    (1988) on the logit scale. Scores are ranked within their fold: pooled scores of different fits are not
    comparable.

    Args:
        features: (N, F); standardised here.
        labels: the class names of each image.
        groups: whose image it is: images of one group are not independent.
        seed: draws the images, the folds and the permutations.
    """
    rng = np.random.default_rng(seed)
    rows = _one_per_group(groups, rng)
    names = sorted({name for row in rows for name in labels[row]})
    targets = np.array([[name in labels[row] for name in names] for row in rows], bool).reshape(len(rows), len(names))
    positives = targets.sum(0)
    usable = (positives >= MIN_IMAGES) & (len(rows) - positives >= MIN_IMAGES)
    chosen = _standardise(np.asarray(features, np.float64)[rows])
    if not usable.any() or not chosen.shape[1]:
        return Association(len(rows), (), 1.0)
    targets, names = targets[:, usable], [name for name, keep in zip(names, usable, strict=True) if keep]
    folds = rng.permutation(len(rows)) % _FOLDS
    p = _permutation_p(chosen, targets, folds, rng)
    scores = _held_out_ranks(chosen, targets.astype(np.float64), folds)
    classes = [
        ClassScore(name, *auroc_interval(scores[:, k], targets[:, k]), int(targets[:, k].sum()))
        for k, name in enumerate(names)
    ]
    return Association(len(rows), tuple(classes), p)


def aurocs(scores: NDArray[np.floating], targets: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(K,) areas under the ROC curves of (N, K) scores, ties counted half (Mann-Whitney)."""
    positive = targets.sum(0)
    ranks = (rankdata(scores, axis=0) * targets).sum(0)
    return (ranks - positive * (positive + 1) / 2) / (positive * (len(targets) - positive))


def auroc_interval(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> tuple[float, float, float]:
    """AUROC with its 95 % interval by DeLong et al. (1988) on the logit scale."""
    ranks = rankdata(scores)
    above, below = (ranks[side] - rankdata(scores[side]) for side in (truth, ~truth))
    # the share of the other class that each image stands above
    placements = above / len(below), 1 - below / len(above)
    area = float(placements[0].mean())
    variance = sum(float(values.var(ddof=1)) / len(values) for values in placements)
    inside = min(max(area, 1e-6), 1 - 1e-6)
    reach = 1.96 * variance**0.5 / (inside * (1 - inside))
    return area, float(expit(logit(inside) - reach)), float(expit(logit(inside) + reach))


def _permutation_p(
    features: NDArray[np.float64], targets: NDArray[np.bool_], folds: NDArray[np.intp], rng: np.random.Generator
) -> float:
    observed = aurocs(_held_out_ranks(features, targets.astype(np.float64), folds), targets)
    null = []
    for start in range(0, PERMUTATIONS, _CHUNK):
        size = min(_CHUNK, PERMUTATIONS - start)
        shuffled = np.concatenate([targets[rng.permutation(len(targets))] for _ in range(size)], axis=1)
        areas = aurocs(_held_out_ranks(features, shuffled.astype(np.float64), folds), shuffled)
        null.append(areas.reshape(size, targets.shape[1]))
    null = np.concatenate(null)
    spread = np.maximum(null.std(0), 1e-9)
    reference = ((null - null.mean(0)) / spread).max(1)
    statistic = ((observed - null.mean(0)) / spread).max()
    return float((1 + (reference >= statistic).sum()) / (1 + len(reference)))


def _held_out_ranks(
    features: NDArray[np.float64], targets: NDArray[np.float64], folds: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(N, K) rank in 0..1, within its fold, of each image's score by the fit on the other folds."""
    ranks = np.empty_like(targets)
    for fold in range(_FOLDS):
        held = folds == fold
        model = Ridge(alpha=0.1 * (~held).sum()).fit(features[~held], targets[~held])
        scores = model.predict(features[held]).reshape(held.sum(), -1)
        ranks[held] = rankdata(scores, axis=0) / (held.sum() + 1)
    return ranks


def _one_per_group(groups: Sequence[str], rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of one image of each group, at most ``MAX_IMAGES``, in rising order."""
    order = rng.permutation(len(groups))
    _, first = np.unique(np.asarray(groups)[order], return_index=True)
    rows = order[first]
    return np.sort(rng.choice(rows, MAX_IMAGES, replace=False) if len(rows) > MAX_IMAGES else rows)


def _standardise(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns to mean 0 and deviation 1; constant ones are dropped."""
    spread = features.std(0)
    kept = spread > 1e-9
    return (features[:, kept] - features[:, kept].mean(0)) / spread[kept]


def _numbers(one: ClassScore) -> dict[str, float | int]:
    return {"auroc": one.auroc, "low": one.low, "high": one.high, "positives": one.positives}
