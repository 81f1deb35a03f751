"""The project that a command belongs to: where its checkpoints are, and what a config's relative paths mean."""

from __future__ import annotations

from pathlib import Path

import platformdirs

#: What the folder of a project has.
_SIGNS = (".git", "pyproject.toml")


def project_folder(start: Path | None = None) -> Path | None:
    """The nearest folder with a ``.git`` or a ``pyproject.toml``, from the working directory or another one upwards."""
    here = (start or Path.cwd()).resolve()
    return next((one for one in (here, *here.parents) if any((one / sign).exists() for sign in _SIGNS)), None)


def store_folder() -> Path:
    """Where ``checkpoints/`` is: of the working directory, of its project, else in the user's cache.

    The first that exists is taken, so that every command of a project looks at the same one.
    """
    own = Path("checkpoints")
    if own.is_dir():
        return own
    project = project_folder()
    if project is not None and (project / own).is_dir():
        return project / own
    return Path(platformdirs.user_cache_dir("covidmm", appauthor=False)) / own


def found_above(path: str, config: Path) -> Path | None:
    """A relative path that the working directory lacks, in the folder of a config or one above it.

    Args:
        path: as the config has it.
        config: its file.

    Returns:
        None where it is absolute, is there already, or is nowhere.
    """
    if Path(path).is_absolute() or Path(path).exists():
        return None
    folders = config.resolve().parents
    last = project_folder(config.resolve().parent)
    for folder in folders:
        if (folder / path).exists():
            return folder / path
        if folder == last:
            break
    return None
