"""What can be known of an ensemble's job before anything is predicted: ``tools/ensemble.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from covidmm.datasets.image_folders import ImageFolder
from covidmm.engine.checkpointing import checkpoint_files, trained_file
from covidmm.engine.training_images import require_unseen
from covidmm.ensembles.ensemble_config import EnsembleConfig
from covidmm.ensembles.learned import LearnedFusion
from covidmm.errors import ConfigError, DataError
from covidmm.outputs.dicom_sr import available, require_threshold
from covidmm.outputs.kaggle import IMAGE_SUFFIX, STUDY_SUFFIX, read_submission, require_ids
from covidmm.plugins import EnsembleStrategy
from covidmm.utils.fileio import require_output


class Outputs(Protocol):
    """The options that name what is written, and what they need."""

    out: str | None
    predictions: str | None
    metrics: str | None
    show_dir: str | None
    sr: str | None
    sr_threshold: float
    sr_deidentify: bool
    export: Sequence[str]
    export_threshold: float
    score: bool
    sweep: bool
    thresholds_from: str | None
    allow_training_images: bool


def require_options(request: Outputs) -> None:
    """Refuse options that need another one, and paths that nothing can be written to.

    Raises:
        ConfigError: names the option.
    """
    for option in ("metrics", "show_dir", "thresholds_from"):
        if getattr(request, option) and not request.score:
            raise ConfigError(f"--{option.replace('_', '-')}: only --score uses it; ask for it, too")
    if request.allow_training_images and not (request.score or request.sweep):
        raise ConfigError("--allow-training-images: only --score and --sweep look at it; ask for one of them, too")
    require_threshold(request.sr_threshold, "--sr-threshold")
    require_threshold(request.export_threshold, "--export-threshold")
    if request.sr_deidentify and not request.sr:
        raise ConfigError("--sr-deidentify: only --sr writes reports; ask for it, too")
    if request.sr and not available():
        raise ConfigError("--sr: highdicom is not installed: pip install 'covidmm[dicom]'")
    for option, folder in (("out", False), ("metrics", False), ("predictions", True), ("show_dir", True), ("sr", True)):
        if path := getattr(request, option):
            require_output(path, f"--{option.replace('_', '-')}", folder)


def require_folder_fits(request: Outputs, cases: ImageFolder) -> None:
    """Refuse what a folder of this kind cannot give.

    Raises:
        ConfigError: pictures of a raw folder, or reports of a prepared one, which has no DICOM headers.
    """
    if request.show_dir and cases.annotations is None:
        raise ConfigError(f"--show-dir: {cases.source}: pictures are drawn of prepared folders only")
    if request.sr and cases.annotations is not None:
        raise ConfigError(f"--sr: {cases.source}: is prepared; reports are made of DICOM files, give the raw folder")


def require_sample(sample: str, cases: ImageFolder) -> None:
    """Refuse a sample submission of other ids than the folder has.

    Raises:
        DataError: it is missing or damaged, or has other ids.
    """
    studies = (f"{case.study_id}{STUDY_SUFFIX}" for case in cases.images)
    images = (f"{case.image_id}{IMAGE_SUFFIX}" for case in cases.images)
    try:
        require_ids([*studies, *images], read_submission(sample), cases.source, sample)
    except DataError as error:
        raise DataError(f"--sample: {error}") from error


def require_unfitted_fusion(
    strategy: EnsembleStrategy, keys: Mapping[str, Mapping[str, Any]], folder: ImageFolder, allowed: bool
) -> None:
    """Refuse to score a learned fusion by the images that it was fitted on.

    Args:
        strategy: of the ensemble.
        keys: what decides the predictions of each member on the folder.
        folder: of the images.
        allowed: say it and go on.

    Raises:
        DataError: they are the same.
    """
    if not isinstance(strategy, LearnedFusion):
        return
    fitted = [one for parameters in strategy.parameters.values() for one in parameters.fitted_on.values()]
    data = {one["data_sha256"] for one in fitted if isinstance(one, Mapping) and "data_sha256" in one}
    if not any(key.get("data_sha256") in data for key in keys.values()):
        return
    line = f"{strategy.path}: the fusion was fitted on the images of {folder.source} ({folder.split})"
    if not allowed:
        raise DataError(f"{line}; score other images, or add --allow-training-images")
    print(f"warning: {line}: what is measured there is too good")


def require_unseen_images(config: EnsembleConfig, folders: Iterable[ImageFolder], study: bool, allowed: bool) -> None:
    """Refuse to choose or to score by images that trained a member.

    Args:
        config: the ensemble.
        folders: of the images.
        study: whether the study classifier is scored, too.
        allowed: say it and go on.

    Raises:
        CheckpointError: names the member, and how many images trained it.
    """
    models = {f"member '{name}'": trained_file(member.checkpoint) for name, member in config.members.items()}
    gate = config.gate.classifier if config.gate else None
    models |= {f"gate's classifier {path.name}": path for path in checkpoint_files(gate)}
    if study:
        models |= {f"study classifier {path.name}": path for path in checkpoint_files(config.study)}
    for folder in {one.sha256: one for one in folders}.values():
        where = f"{folder.source} ({folder.split})" if folder.split else str(folder.source)
        require_unseen(models, [(one.study_id, one.image_id) for one in folder.images], where, allowed)
