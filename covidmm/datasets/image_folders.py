"""The images of a folder to predict, raw or prepared, with the names that a submission gives them."""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import read_manifest, read_split
from covidmm.errors import DataError, RadiographError
from covidmm.prepare.layouts.siim import IMAGE_CSV, STUDY_CSV
from covidmm.radiograph import Radiograph, sandbox
from covidmm.radiograph.found_files import FoundFile, find_radiographs, identify, name_of

#: What a submission may call a study or an image: a cell that begins with = + - @ is a formula to a spreadsheet, and a
#: path, a quote or a line break has no place in an id.
SAFE_ID = re.compile(r"\w([\w. ~-]*[\w.~-])?")
#: The most characters of one, since files and pictures are named by it. Chosen here.
_LONGEST_ID = 128


_SIIM = "<study>/<series>/<image>.dcm"


@dataclass(frozen=True)
class FolderImage:
    """One image; no pixel has been read.

    Attributes:
        image_id: its name.
        study_id: its study's.
        path: the file.
        height: of the original where the file is a smaller copy of it, else None.
        width: as ``height``.
        size: height and width of the file as its annotations say, None where there are none.
        labelled: whether people labelled it as a chest radiograph, whatever its header says.
        notes: how it got its name, where that is not plain.
    """

    image_id: str
    study_id: str
    path: Path
    height: int | None = None
    width: int | None = None
    size: tuple[int, int] | None = None
    labelled: bool = False
    notes: tuple[str, ...] = ()

    def read(self) -> Radiograph:
        """The radiograph, with the original's size in its header.

        Raises:
            RadiographError: the file cannot be read.
            DataError: it has another size than its annotations say, so that their boxes belong to another picture.
        """
        found = sandbox.read(self.path)
        size = (found.header.height, found.header.width)
        if self.size not in (None, size):
            raise DataError(f"{self.path}: is annotated at height x width {self.size}, but is {size}")
        size = {"height": self.height or found.header.height, "width": self.width or found.header.width}
        header = dataclasses.replace(found.header, **size)
        return dataclasses.replace(found, header=header, notes=(*self.notes, *found.notes))


@dataclass(frozen=True)
class LeftOut:
    """What lies in a folder and is not predicted.

    Attributes:
        path: a file, or a folder that cannot be read.
        cause: why it is not.
        fault: whether an image is lost by it, such as another one of the same name.
    """

    path: Path
    cause: str
    fault: bool = False


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, those of a study side by side.

    Attributes:
        images: sorted by study and image.
        source: the folder.
        split: the split, or None where the folder has none.
        annotations: the COCO file with the truth, where the folder is a prepared one.
        sha256: of a prepared folder's annotations and grey values; of a raw one's names, sizes and times of change.
        left_out: every other file of a raw folder, by path.
    """

    images: tuple[FolderImage, ...]
    source: Path
    split: str | None
    annotations: Path | None
    sha256: str
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def studies(self) -> Iterator[tuple[str, list[FolderImage]]]:
        """Each study with its images."""
        for study_id, images in groupby(self.images, key=lambda image: image.study_id):
            yield study_id, list(images)


def read_image_folder(folder: str | Path, split: str | None = None) -> ImageFolder:
    """Find the images of a folder, by what its files hold and not by their names.

    * A prepared folder: the images of ``split``, ``test`` by default, under the names of the data set.
    * A raw SIIM folder: ``<split>/<study>/<series>/<image>.dcm``, ``test`` by default, ``train`` where there is no
      ``test``; the other split is not looked at.
    * Any other folder: every DICOM, PNG, JPEG or TIFF file below it. Study and image are named by the DICOM header;
      an image without a study is one of its own, a picture is named by its file, and by its folders where others have
      its name.

    Of several files with one name the first is taken; the others are left out, as copies or as faults.

    Raises:
        DataError: no such folder, no image in it, or an annotation file or manifest that is missing or damaged.
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
        return _listed(*_siim(folder, chosen), folder, chosen)
    found = list(find_radiographs(folder))
    left_out = [LeftOut(one.path, one.cause) for one in found if one.cause]
    return _listed(_free([one for one in found if not one.cause], folder), left_out, folder, None)


def _listed(images: Iterable[FolderImage], left_out: list[LeftOut], folder: Path, split: str | None) -> ImageFolder:
    ordered, copies = _distinct(images)
    left_out = sorted([*left_out, *copies], key=lambda one: one.path)
    if not ordered:
        more = f"; {len(left_out)} other files, the first: {left_out[0].path}: {left_out[0].cause}" if left_out else ""
        raise DataError(f"{folder}: no image in it, expected DICOM, PNG, JPEG or TIFF{more}")
    digest = hashlib.sha256()
    for image in ordered:
        # not the content: reading a whole folder twice would double the work of the first run
        digest.update(f"{image.study_id} {image.image_id} {_version(image.path)}\n".encode())
    return ImageFolder(ordered, folder, split, None, digest.hexdigest(), tuple(left_out))


def _version(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:  # a link to itself; reported when its pixels are read
        return str(error.errno)
    return f"{status.st_size} {status.st_mtime_ns}"


def _prepared(folder: Path, split: str) -> ImageFolder:
    annotations = folder / "annotations" / f"{split}.json"
    seen: dict[str, FolderImage] = {}
    for image in map(_copy, read_split(annotations).images):
        if image.image_id in seen:
            raise DataError(f"{image.path}: has the image id '{image.image_id}' of {seen[image.image_id].path}")
        seen[image.image_id] = image
    digest = hashlib.sha256(annotations.read_bytes() + read_manifest(folder)["data_sha256"].encode())
    return ImageFolder(_in_order(seen.values()), folder, split, annotations, digest.hexdigest())


def _copy(one: AnnotatedImage) -> FolderImage:
    return FolderImage(
        one.image_id, one.study_id, one.path, *(one.original_size or (None, None)), one.size, labelled=True
    )


def _in_order(images: Iterable[FolderImage]) -> tuple[FolderImage, ...]:
    return tuple(sorted(images, key=lambda image: (image.study_id, image.image_id)))


def _distinct(images: Iterable[FolderImage]) -> tuple[tuple[FolderImage, ...], list[LeftOut]]:
    """One image of each name, sorted by study and image, and the others."""
    taken: dict[str, FolderImage] = {}
    left_out = []
    for image in images:
        first = taken.setdefault(image.image_id, image)
        if first is not image:
            taken[image.image_id], other = _of_one_name(first, image)
            left_out.append(other)
    return _in_order(taken.values()), left_out


def _of_one_name(first: FolderImage, second: FolderImage) -> tuple[FolderImage, LeftOut]:
    """Which of two images with one name is taken, and the other."""
    same_name = f"has the image id '{first.image_id}' of {first.path}"
    try:
        if filecmp.cmp(first.path, second.path, shallow=False):
            return first, LeftOut(second.path, f"{same_name} and is a copy of it")
    except OSError:
        pass  # said by what follows
    try:
        pixels = first.read().pixels
    except RadiographError as error:
        return second, LeftOut(first.path, f"{_cause(first, error)}; {second.path} has its image id, too")
    try:
        other = second.read().pixels
    except RadiographError as error:
        return first, LeftOut(second.path, f"{_cause(second, error)}; it {same_name}, too", fault=True)
    if pixels.shape == other.shape and (pixels == other).all():
        return first, LeftOut(second.path, f"{same_name} and its pixels")
    return first, LeftOut(second.path, f"{same_name}, but is another image", fault=True)


def _cause(image: FolderImage, error: RadiographError) -> str:
    return str(error).removeprefix(f"{image.path}: ")


def _siim(folder: Path, chosen: str) -> tuple[list[FolderImage], list[LeftOut]]:
    """The images of a split of a raw SIIM folder, and what else is there but the tables and the other split."""
    images, left_out = [], []
    labelled = all((folder / name).is_file() for name in (IMAGE_CSV, STUDY_CSV))
    for found in find_radiographs(folder / chosen):
        parts = found.path.relative_to(folder / chosen).parts
        if found.cause or len(parts) != 3:
            cause = found.cause or f"is not where images are, expected {folder / chosen}/{_SIIM}"
            left_out.append(LeftOut(found.path, cause, fault=not found.cause))
        else:
            images.append(FolderImage(_plain(name_of(found.path)), parts[0], found.path, labelled=labelled))
    for path in folder.iterdir():
        if path.name in ("train", "test", IMAGE_CSV, STUDY_CSV):
            continue
        for found in find_radiographs(path) if path.is_dir() else [identify(path)]:
            cause = found.cause or f"lies outside of {chosen}/"
            left_out.append(LeftOut(found.path, cause, fault=not found.cause))
    return images, left_out


def _free(found: list[FoundFile], folder: Path) -> Iterator[FolderImage]:
    """The images of a folder in no known layout."""
    files = Counter(name_of(one.path) for one in found if one.image is None)
    for one in found:
        name, notes = one.image or name_of(one.path), ()
        if one.image is None and files[name] > 1:
            notes = (f"named by its folders: {files[name]} files are called '{name}'",)
            name = "_".join(one.path.relative_to(folder).parts)
        image_id = _plain(name)
        yield FolderImage(image_id, _plain(one.study) if one.study else image_id, one.path, notes=notes)


def _plain(name: str) -> str:
    """A name as it is, or its hash where it could become a path, a formula or a file name without end."""
    if len(name) <= _LONGEST_ID and SAFE_ID.fullmatch(name):
        return name
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:32]
