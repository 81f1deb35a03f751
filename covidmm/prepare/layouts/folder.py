"""Pictures or DICOM without labels, in any folders.

``RAW/**``: to predict on, or to label later. There is no class and no box, so that nothing trains on it as it stands.
"""

from __future__ import annotations

from pathlib import Path

from covidmm.errors import DataError
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages
from covidmm.prepare.options import Options
from covidmm.prepare.samples import LabelledFolder


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Find every image below a folder.

    Raises:
        DataError: there is none.
    """
    found = LabelledImages(raw, options)
    for path in found.files.every:
        found.add(LabelledImage(path, found.name(path)))
    if not found.files.every:
        raise DataError(f"{raw}: no DICOM file, PNG, JPEG or TIFF in it")
    return found.folder()
