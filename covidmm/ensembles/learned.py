"""A fusion whose numbers were fitted on validation predictions: see :mod:`covidmm.ensembles.fitting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.ensembles.pooled_boxes import NormBoxes, PooledStrategy, require_unit
from covidmm.ensembles.wbf import WeightedBoxesFusion
from covidmm.errors import ConfigError
from covidmm.findings import OPACITY
from covidmm.utils.fileio import json_bytes, json_value, write_bytes

FORMAT = "covidmm learned fusion"
VERSION = 2
#: Scores are taken for at least this, and at most 1 less this, where their logit is needed.
_EDGE = 1e-6


@dataclass(frozen=True)
class MemberParameters:
    """What was fitted for one member.

    Attributes:
        name: the member's name.
        weight: how much it counts.
        score_threshold: boxes with a lower calibrated score take no part.
        slope: the calibrated score is sigmoid(slope * logit(score) + intercept) (Platt, 1999).
        intercept: as above; a slope of 1 and an intercept of 0 leave scores as they are.
    """

    name: str
    weight: float = 1.0
    score_threshold: float = 0.0
    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.weight, self.score_threshold, self.slope, self.intercept)
        if not isinstance(self.name, str) or not np.isfinite(numbers).all() or min(self.weight, self.slope) <= 0:
            raise ValueError(f"member {self.name!r}: weight and slope must be positive, all numbers finite")
        require_unit("score_threshold", self.score_threshold)

    def calibrated(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) probabilities that the boxes are true positives; a higher score never gets a lower one."""
        if (self.slope, self.intercept) == (1, 0):
            return scores
        return 1 / (1 + np.exp(-(self.slope * logit(scores) + self.intercept)))


@dataclass(frozen=True)
class LearnedParameters:
    """A fitted fusion of one class: weighted boxes fusion after a calibration of each member's scores.

    Attributes:
        members: what was fitted for each member, in their order.
        iou_thr: IoU above which boxes are fused.
        final_nms: IoU of a suppression after the fusion, None for none.
        images: how many images it was fitted on.
        cross_validation: how plain fusion and the fitted one did on images left out, and which was taken.
        fitted_on: where the predictions and the data come from, such as their hashes; from the caller.
    """

    members: tuple[MemberParameters, ...]
    iou_thr: float
    final_nms: float | None
    images: int
    cross_validation: Mapping[str, Any] = field(default_factory=dict)
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    def fuse_pool(self, pool: NormBoxes) -> NormBoxes:
        """Fuse the boxes of the class on one image: calibrate, drop what is below its threshold, fuse."""
        calibrated, kept = pool.scores.copy(), np.ones(len(pool), bool)
        for index, member in enumerate(self.members):
            own = pool.members == index
            calibrated[own] = member.calibrated(pool.scores[own])
            # float32 as in wbf's skip_box_thr: a score of 0.7 is at a threshold of 0.7
            kept[own] = calibrated[own] >= np.float32(member.score_threshold)
        weights = np.array([member.weight for member in self.members])
        chosen = NormBoxes(pool.boxes, calibrated, pool.labels, pool.members).take(kept)
        return WeightedBoxesFusion(self.iou_thr, final_nms=self.final_nms).fuse_pool(chosen, weights)


def write_learned(path: Path, classes: Mapping[str, LearnedParameters]) -> None:
    """Write the fitted fusion of each class as a JSON file for people and programs, whole or not at all."""
    content = {"format": FORMAT, "version": VERSION, "classes": {name: asdict(one) for name, one in classes.items()}}
    write_bytes(path, json_bytes(content, indent=2))


def read_learned(path: Path) -> dict[str, LearnedParameters]:
    """Read what :func:`write_learned` wrote.

    Raises:
        ConfigError: the file is missing, damaged, something else, or of another version.
    """
    try:
        content = json_value(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: no parameters of a learned fusion: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: damaged, no JSON: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise ConfigError(f"{path}: no parameters of a learned fusion: its format is not '{FORMAT}'")
    version = content.pop("version", None)
    if version == 1:  # of the time when there was one class
        content = {"classes": {OPACITY[0]: content}}
    elif version != VERSION:
        raise ConfigError(f"{path}: version {version} of the format, this covidmm reads 1 and {VERSION}; fit again")
    try:
        return {str(name): _read_parameters(one) for name, one in _filled(content.pop("classes"), "class").items()}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged: {error}") from error


def _read_parameters(content: dict[str, Any]) -> LearnedParameters:
    members = tuple(MemberParameters(**member) for member in _filled(content.pop("members"), "member"))
    found = LearnedParameters(members=members, **content)
    WeightedBoxesFusion(found.iou_thr, final_nms=found.final_nms)
    return found


def _filled(found: Any, what: str) -> Any:
    if not found:
        raise ValueError(f"it has no {what}")
    return found


class LearnedFusion(PooledStrategy):
    """The ensemble strategy ``dict(type='learned', parameters='fusion.json')``.

    Each class is fused by what was fitted for it. The fitted weights count, not the config's.

    Args:
        parameters: file that :func:`write_learned` wrote.

    Raises:
        ConfigError: the file is missing, damaged, something else, or of another version.
    """

    def __init__(self, parameters: str) -> None:
        self.path = Path(parameters)
        self.parameters = read_learned(self.path)

    def require_voters(self, voters: Mapping[str, Sequence[str]]) -> None:
        """Refuse classes and members that it was not fitted for, before anything is predicted.

        Raises:
            ConfigError: other names, or another order: what was fitted is found by its place.
        """
        again = "fit it again with --sweep"
        if list(voters) != list(self.parameters):
            fitted, found = ", ".join(self.parameters), ", ".join(voters)
            raise ConfigError(
                f"{self.path}: fitted for the classes {fitted}, in this order; the ensemble finds {found}; {again}"
            )
        for name, one in self.parameters.items():
            fitted = [member.name for member in one.members]
            if fitted != list(voters[name]):
                of = f" of '{name}'" if len(voters) > 1 else ""
                raise ConfigError(
                    f"{self.path}: fitted for the members {', '.join(fitted)}{of}, in this order; the config has "
                    f"{', '.join(voters[name])}; {again}"
                )

    def fuse_pool(self, pool: NormBoxes, weights: NDArray[np.float64]) -> NormBoxes:
        """Fuse one image; see :meth:`PooledStrategy.fuse_pool`.

        Raises:
            ConfigError: it was fitted for another number of members or classes.
        """
        by_label = list(self.parameters.values())
        if len(pool) and pool.labels.max() >= len(by_label):
            raise ConfigError(f"{self.path}: fitted for {len(by_label)} classes, a box has class {pool.labels.max()}")
        parts = []
        for label in np.unique(pool.labels):
            fitted = by_label[label].members
            if len(weights) != len(fitted):
                names = ", ".join(member.name for member in fitted)
                raise ConfigError(f"{self.path}: fitted for {len(fitted)} members ({names}), not for {len(weights)}")
            parts.append(by_label[label].fuse_pool(pool.take(pool.labels == label)))
        return NormBoxes.joined(parts).best_first()


def logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(s / (1 - s)), of scores kept off 0 and 1."""
    inner = scores.clip(_EDGE, 1 - _EDGE)
    return np.log(inner) - np.log1p(-inner)
