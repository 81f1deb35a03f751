"""The images of a folder to predict, raw or prepared, with the names that a submission gives them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from covidmm import radiograph
from covidmm.datasets.prepared_folder import read_manifest, read_split
from covidmm.errors import DataError, RadiographError
from covidmm.radiograph import Radiograph, sandbox

#: What a folder in no known layout is searched for; files without a suffix may be DICOM.
SUFFIXES = ("", ".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
#: What a submission may call a study or an image: a cell that begins with = + - @ is a formula to a spreadsheet, and a
#: path, a quote or a line break has no place in an id.
SAFE_ID = re.compile(r"\w([\w. ~-]*[\w.~-])?")
#: The most characters of one, since files and pictures are named by it. Chosen here.
_LONGEST_ID = 128


@dataclass(frozen=True)
class FolderImage:
    """One image; no pixel has been read.

    ``height`` and ``width`` are those of the original where the file is a smaller copy of it, else None.
    """

    image_id: str
    study_id: str
    path: Path
    height: int | None = None
    width: int | None = None

    def read(self) -> Radiograph:
        """The radiograph, with the original's size in its header.

        Raises:
            RadiographError: the file cannot be read.
        """
        found = sandbox.read(self.path)
        size = {"height": self.height or found.header.height, "width": self.width or found.header.width}
        return dataclasses.replace(found, header=dataclasses.replace(found.header, **size))


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, those of a study side by side.

    Attributes:
        images: sorted by study and image.
        source: the folder.
        split: the split, or None where the folder has none.
        annotations: the COCO file with the truth, where the folder is a prepared one.
        sha256: of a prepared folder's annotations and grey values; of a raw one's names, sizes and times of change.
    """

    images: tuple[FolderImage, ...]
    source: Path
    split: str | None
    annotations: Path | None
    sha256: str

    def __len__(self) -> int:
        return len(self.images)

    def studies(self) -> Iterator[tuple[str, list[FolderImage]]]:
        """Each study with its images."""
        for study_id, images in groupby(self.images, key=lambda image: image.study_id):
            yield study_id, list(images)


def read_image_folder(folder: str | Path, split: str | None = None) -> ImageFolder:
    """Find the images of a folder.

    * A prepared folder: the images of ``split``, ``test`` by default, under the names of the data set.
    * A raw SIIM folder: ``<split>/<study>/<series>/<image>.dcm``, ``test`` by default, ``train`` where there is no
      ``test``.
    * Any other folder: every DICOM, PNG, JPEG or TIFF file below it. Study and image are named by the DICOM header;
      a picture without one is a study of its own, named by its file.

    Raises:
        DataError: no such folder, no image in it, two images with the same name, or an annotation file or manifest
            that is missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if (folder / "annotations").is_dir():
        return _prepared(folder, split or "test")
    layout = [name for name in ("test", "train") if (folder / name).is_dir()]
    if split is not None and split not in layout:
        raise DataError(f"{folder}: has no split '{split}'; it is neither prepared nor holds a folder of that name")
    if layout:
        chosen = split or layout[0]
        images = (_siim_image(path, folder / chosen) for path in _files(folder / chosen, (".dcm",)))
        return _listed(images, folder, chosen)
    return _listed((_free_image(path) for path in _files(folder, SUFFIXES)), folder, None)


def _listed(images: Iterable[FolderImage], folder: Path, split: str | None) -> ImageFolder:
    ordered = _unique(images)
    digest = hashlib.sha256()
    for image in ordered:
        # not the content: reading a whole folder twice would double the work of the first run
        digest.update(f"{image.study_id} {image.image_id} {_version(image.path)}\n".encode())
    return ImageFolder(ordered, folder, split, None, digest.hexdigest())


def _version(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:  # a link to itself; reported when its pixels are read
        return str(error.errno)
    return f"{status.st_size} {status.st_mtime_ns}"


def _prepared(folder: Path, split: str) -> ImageFolder:
    annotations = folder / "annotations" / f"{split}.json"
    known = read_split(annotations).images
    images = _unique(FolderImage(one.image_id, one.study_id, one.path, *one.original_size) for one in known)
    digest = hashlib.sha256(annotations.read_bytes() + read_manifest(folder)["data_sha256"].encode())
    return ImageFolder(images, folder, split, annotations, digest.hexdigest())


def _unique(images: Iterable[FolderImage]) -> tuple[FolderImage, ...]:
    """Sorted by study and image; no image name may occur twice."""
    seen: dict[str, FolderImage] = {}
    for image in images:
        if image.image_id in seen:
            raise DataError(f"{image.path}: has the image id '{image.image_id}' of {seen[image.image_id].path}")
        seen[image.image_id] = image
    return tuple(sorted(seen.values(), key=lambda image: (image.study_id, image.image_id)))


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in suffixes and name != "DICOMDIR"
    ]
    if not found:
        raise DataError(f"{folder}: no image in it; expected files ending in {', '.join(filter(None, suffixes))}")
    return sorted(found)


def _siim_image(path: Path, root: Path) -> FolderImage:
    parts = path.relative_to(root).parts
    if len(parts) != 3:
        raise DataError(f"{path}: expected {root}/<study>/<series>/<image>.dcm")
    return FolderImage(path.stem, parts[0], path)


def _free_image(path: Path) -> FolderImage:
    try:
        header = radiograph.read_header(path)
    except RadiographError:
        return FolderImage(_plain(path.stem), _plain(path.stem), path)  # reported when its pixels are read
    return FolderImage(_plain(header.image or path.stem), _plain(header.study or path.stem), path)


def _plain(name: str) -> str:
    """A name as it is, or its hash where it could become a path, a formula or a file name without end."""
    if len(name) <= _LONGEST_ID and SAFE_ID.fullmatch(name):
        return name
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]
