"""The registered data set of labels of whole images, of any prepared folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.logging import print_log

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.class_mapping import ClassMap, class_indices, mapped_names
from covidmm.datasets.image_labels import image_labels, label_names
from covidmm.datasets.prepared_datasets import LabelDataset
from covidmm.datasets.prepared_folder import PreparedSplit, read_split
from covidmm.errors import DataError


@DATASETS.register_module()
class FindingsLabelDataset(LabelDataset):
    """Radiographs with what is on them, of any layout of ``tools/prepare.py``; see :func:`image_labels`.

    Args:
        class_map: name in the folder -> name of the model's class; None leaves it out. Others keep their names.
        absent: classes that the folder is known not to have, where several data sets train together.
        negative: the class of an image without any other, such as 'No finding'; None gives such an image none.
        multi_label: whether an image can have several labels, or none, instead of exactly one.
        **kwargs: as for mmengine's ``BaseDataset``; ``metainfo=dict(classes=...)`` names the classes, which are those
            of the folder by default.

    Raises:
        DataError: the folder or the annotation file is missing or damaged, its labels do not fit the classes, or an
            image has none or several where there must be one.
    """

    LAYOUT, VARIABLE = "LAYOUT", "FINDINGS_ROOT"
    #: The classifier gets as many classes as the folder has; see :mod:`covidmm.engine.data_classes`.
    FOLLOWED = True
    #: What it says of images is no boxes.
    OF_IMAGES = True

    def __init__(
        self,
        *,
        class_map: ClassMap | None = None,
        absent: Sequence[str] = (),
        negative: str | None = None,
        multi_label: bool = True,
        **kwargs: Any,
    ) -> None:
        self.class_map = dict(class_map or {})
        self.absent = tuple(absent)
        self.negative = negative
        self.multi_label = multi_label
        super().__init__(**kwargs)

    @classmethod
    def classes_in(cls, split: PreparedSplit, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes of a folder, as a data set of this config sees them."""
        names = mapped_names(label_names(split), config.get("class_map") or {})
        negative = config.get("negative")
        return names if negative is None or negative in names else (*names, negative)

    def load_data_list(self) -> list[dict]:
        """Read the annotation file."""
        split = read_split(Path(self.ann_file))
        if "classes" not in self._metainfo:
            self._metainfo["classes"] = self.classes_in(split, vars(self))
        classes, names = self._metainfo["classes"], label_names(split)
        if self.negative is not None and self.negative not in classes:
            raise DataError(f"{self.ann_file}: negative is {self.negative!r}, the classes are {', '.join(classes)}")
        known = (*self.absent, *([self.negative] if self.negative else []))
        indices = class_indices(self.ann_file, names, classes, self.class_map, known)
        self._names = {name: classes[index] for name, index in zip(names, indices, strict=True) if index is not None}
        data_list = super().load_data_list()
        counts = Counter(int(index) for sample in data_list for index in sample["gt_label"].nonzero()[0])
        text = ", ".join(f"{name} {counts[index]}" for index, name in enumerate(classes))
        left_out = [name for name, index in zip(names, indices, strict=True) if index is None]
        others = f"; left out: {', '.join(left_out)}" if left_out else ""
        print_log(f"FindingsLabelDataset {self.ann_file}: {text}{others}", logger="current")
        return data_list

    def labels_of(self, image: AnnotatedImage) -> Sequence[str]:
        """The classes of an image.

        Raises:
            DataError: it has none or several, and must have one.
        """
        found = list(dict.fromkeys(self._names[name] for name in image_labels(image) if name in self._names))
        if self.negative is not None:
            found = [name for name in found if name != self.negative] or [self.negative]
        if not self.multi_label and len(found) != 1:
            has = f"{len(found)} labels ({', '.join(found)})" if found else "no label, and no class is 'negative'"
            where = f"{self.ann_file}: image {image.coco['id']} ({image.image_id})"
            raise DataError(f"{where}: has {has}; expected one, or a model with multi_label=True")
        return found
