"""Which fold each image of a data set goes to, from what ties images to one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from covidmm.prepare import splits
from covidmm.prepare.near_duplicates import SIDE, find_pairs
from covidmm.prepare.options import Options
from covidmm.prepare.pixels import Record
from covidmm.prepare.samples import Issue, IssueSink, Sample
from covidmm.prepare.scratch import Rows, Scratch, joined, parted
from covidmm.prepare.splits import Groups


@dataclass(frozen=True)
class Plan:
    """The fold of every image."""

    groups: Groups
    folds: Mapping[str, int]
    """By the first image of a group; the groups that are not named go to ``otherwise``."""
    otherwise: int
    near_duplicates: int
    """Pairs of images that show the same picture."""

    def fold(self, image_id: str) -> int:
        """The fold of an image."""
        return self.folds.get(self.groups.first(image_id), self.otherwise)


class Planner:
    """Is told of every usable image, and then makes a plan.

    Args:
        scratch: holds what the planner is told.
        images: folder of the PNGs.
    """

    def __init__(self, scratch: Scratch, images: Path) -> None:
        self._scratch = scratch
        self._names: MutableMapping[str, str] = scratch.map()
        self._shared: MutableMapping[str, bool] = scratch.map()
        self._studies: MutableMapping[str, None] = scratch.map()
        self._patients: MutableMapping[str, None] = scratch.map()
        self._images = images
        self._paths: list[Path] = []
        self._digests: list[str] = []
        self._thumbnails = Rows(scratch.file(), (SIDE, SIDE))
        self._listed = True
        self._near_duplicates = 0

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, sample: Sample, record: Record) -> None:
        """Take note of an image and its PNG; no image comes twice."""
        self._names[_number(len(self))] = sample.image_id
        self._paths.append(self._images / sample.file_name)
        self._digests.append(record.pixels_sha256)
        self._thumbnails.append(record.pixels())
        self._listed = self._listed and bool(sample.official)
        self._studies[sample.study_id] = None
        self._shared[joined("study", sample.study_id, sample.image_id)] = True
        patient = sample.patient or record.patient
        if patient:
            self._patients[joined(patient, sample.study_id)] = None
            self._shared[joined("patient", patient, sample.image_id)] = bool(sample.patient)

    def plan(self, samples: MutableMapping[str, Sample], notes: IssueSink, options: Options) -> Plan:
        """Give every image its fold.

        Args:
            samples: those that were added, by image id. Training images that show what an official test image shows
                are removed.
            notes: is told of these, and of patient ids that name nobody.
            options: of the preparation.
        """
        pairs = self._same_pictures(options.progress)
        groups = splits.group(self._ties(self._placeholders(notes)), pairs, self._scratch.map())
        official = options.split == "auto" and self._listed
        placed = self._leave_out(samples, groups, notes) if official else {}
        if options.split in ("val", "test"):
            return Plan(groups, {}, splits.TEST if options.split == "test" else options.val_fold, self._near_duplicates)
        firsts = ((groups.first(image_id), sample.classes) for image_id, sample in samples.items())
        folds = splits.assign(
            ((None if first in placed else first, classes) for first, classes in firsts),
            self._scratch.map,
            seed=options.seed,
            test_fraction=0.0 if official or options.split != "auto" else options.test_fraction,
        )
        return Plan(groups, folds, splits.TEST, self._near_duplicates)

    def _placeholders(self, notes: IssueSink) -> Mapping[str, int]:
        """Patient ids that half the studies share name nobody."""
        studies = len(self._studies)
        pairs = ((patient, study) for patient, study in map(parted, self._patients))
        found = splits.placeholders(pairs, studies)
        for patient, own in found.items():
            cause = f"{patient!r} stands in {own} of {studies} studies: not used for the splits"
            notes.append(Issue("", "PatientID", cause))
        return found

    def _ties(self, nobody: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """What an image shares with others, and its id. Patients of the label files are believed."""
        for key, sure in self._shared.items():
            kind, name, image_id = parted(key)
            if sure or name not in nobody:
                yield joined(kind, name), image_id

    def _same_pictures(self, progress: bool | None) -> Iterator[tuple[str, str]]:
        pairs = find_pairs(self._thumbnails[: len(self)], self._digests, self._paths, progress)
        self._near_duplicates = len(pairs)
        for pair in pairs:
            yield self._names[_number(pair.first)], self._names[_number(pair.second)]

    def _leave_out(self, samples: MutableMapping[str, Sample], groups: Groups, notes: IssueSink) -> Mapping[str, str]:
        """Remove the training images that are tied to an image of the official test list.

        Returns:
            The first image of every group with test images -> the first of these.
        """
        tests: MutableMapping[str, str] = self._scratch.map()
        for image_id, sample in samples.items():
            if sample.official == "test":
                tests.setdefault(groups.first(image_id), image_id)
        for image_id, sample in samples.items():
            test = None if sample.official == "test" else tests.get(groups.first(image_id))
            if test is not None:
                cause = f"left out of training: shows the same picture or patient as test image {test}"
                notes.append(Issue(sample.file_name, "split", cause))
                del samples[image_id]
        return tests


def _number(index: int) -> str:
    return f"{index:012d}"
