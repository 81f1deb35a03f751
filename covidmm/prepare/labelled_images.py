"""Gathers images and labels, whatever files they come from, into a :class:`~covidmm.prepare.samples.LabelledFolder`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covidmm.errors import DataError
from covidmm.prepare.class_names import ClassNames
from covidmm.prepare.image_names import ImageFiles, patients_by, unique_ids
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Issue, LabelledBox, LabelledFolder, Sample


@dataclass
class LabelledImage:
    """What label files say of one image; unset fields are unknown."""

    source: Path
    """The image file."""
    label_file: str
    """Name of the file that says it, for messages."""
    boxes: list[LabelledBox] = field(default_factory=list)
    findings: tuple[str, ...] = ()
    """Names of classes that the whole image shows, without a box."""
    size: tuple[int, int] | None = None
    """Height and width in pixels."""
    patient: str | None = None
    study: str | None = None
    split: str | None = None
    """As :attr:`covidmm.prepare.samples.Sample.official`."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further entries of the COCO image."""


class LabelledImages:
    """The images of a raw folder with their labels, and what cannot be used of them.

    Attributes:
        raw: the folder.
        names: of the classes.
        files: its images.
        skipped: what cannot be used.
        notes: what was changed.

    Raises:
        ConfigError: the pattern for patients is none.
    """

    def __init__(self, raw: Path, options: Options) -> None:
        self.raw = raw
        self.names = ClassNames()
        self.files = ImageFiles(raw)
        self.skipped: list[Issue] = []
        self.notes: list[Issue] = []
        self._patient = patients_by(options.patient_from, raw)
        self._images: dict[Path, LabelledImage] = {}
        self._refused: set[Path] = set()

    def name(self, path: Path) -> str:
        """A file's path below the folder."""
        return path.relative_to(self.raw).as_posix()

    @contextmanager
    def reading(self, file: str, where: str) -> Iterator[None]:
        """Where the block raises a ValueError ``field: cause``, list it as skipped."""
        try:
            yield
        except ValueError as error:
            column, _, cause = str(error).partition(": ")
            self.skipped.append(Issue(file, f"{column} ({where})", cause))

    def refuse(self, source: Path) -> None:
        """Use an image under no circumstances: a label of it is unusable, and without it the others are wrong."""
        self._refused.add(source)
        self._images.pop(source, None)

    def refuse_called(self, names: Iterable[str], near: Path) -> None:
        """Refuse the images of some names, as far as they are there; their rows are listed already."""
        for name in names:
            with suppress(ValueError):
                self.refuse(self.files.find(name, near))

    def add(self, image: LabelledImage) -> None:
        """Take an image. A second entry that says the same adds its split; of two that differ neither is used.

        Raises:
            ValueError: ``file_name: cause``: there is another entry for it.
        """
        if image.source in self._refused:
            raise ValueError("file_name: another entry for this image cannot be used")
        first = self._images.setdefault(image.source, image)
        if first is image:
            return
        if len({first.size, image.size, None}) > 2:
            sizes = " and ".join("{1} x {0}".format(*one.size) for one in (first, image) if one.size)
            cause = f"gives it another size: {sizes}"
        elif first.boxes != image.boxes or first.findings != image.findings:
            cause = "has other boxes"
        elif len({first.split, image.split, None}) > 2:
            cause = f"puts it into another split: {first.split} and {image.split}"
        else:
            first.split = first.split or image.split
            return
        self.refuse(image.source)
        raise ValueError(f"file_name: a second entry for this image, beside {first.label_file}, {cause}")

    def folder(self, categories: Sequence[str] | None = None) -> LabelledFolder:
        """All of it.

        Args:
            categories: the first of :attr:`names`, where others have no boxes; None: all.

        Raises:
            DataError: there is no image at all.
        """
        if not self._images and not self.skipped:
            raise DataError(f"{self.raw}: no image in it that labels name")
        splits = {image.split for image in self._images.values()}
        for path, image in list(self._images.items()):
            if image.split is None and len(splits) > 1:
                self.refuse(path)
                cause = "is in no split, though other images are"
                self.skipped.append(Issue(image.label_file, f"split ({self.name(path)})", cause))
        splits.discard(None)
        images = {path: self._images[path] for path in sorted(self._images)}
        ids = unique_ids(self.raw, images)
        samples = {}
        for source, image in images.items():
            found = dict.fromkeys((*(self.names.names[box.label] for box in image.boxes), *image.findings))
            samples[ids[source]] = Sample(
                image_id=ids[source],
                source=source,
                file_name=f"{ids[source]}.png",
                study_id=image.study or ids[source],
                classes=tuple(found) or (ClassNames.NOTHING,),
                boxes=tuple(image.boxes),
                label_file=image.label_file,
                size=image.size,
                patient=self._patient(source) or image.patient,
                official=_official(image.split, splits),
                extra=image.extra,
            )
        return LabelledFolder(
            dict(sorted(samples.items())),
            self.skipped,
            (*self.names.names, ClassNames.NOTHING),
            self.names.names if categories is None else tuple(categories),
            self.files.left_out({*images, *self._refused}),
            self.notes,
        )


def label_text(value: object) -> str | None:
    """A value of a label file as text; None where it is empty."""
    return None if value is None or value == "" else str(value)


def split_called(name: str) -> str | None:
    """The split that a word means, whatever its case: ``'train'``, ``'val'``, ``'test'`` or ``'train_val'``."""
    return _SPLITS.get(name.strip().lower())


_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("trainval", "train_val", "train-val"), "train_val"),
}


def _official(split: str | None, splits: set[str]) -> str | None:
    """A given split as the plan keeps it: none where all images have the same, and no validation set without one."""
    if len(splits) == 1:
        return None
    return "train_val" if split == "train" and "val" not in splits else split
