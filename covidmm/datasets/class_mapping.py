"""Which classes of a data set a model learns, and under which names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from covidmm.errors import DataError, did_you_mean

#: Name in the data set -> name of the model's class; None leaves its boxes out. Others keep their names.
ClassMap = Mapping[str, str | None]


def mapped_names(categories: Sequence[str], class_map: ClassMap) -> tuple[str, ...]:
    """The classes that a data set has after a mapping, in the order of its categories."""
    found = (class_map.get(name, name) for name in categories)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def class_indices(
    source: str, categories: Sequence[str], classes: Sequence[str], class_map: ClassMap, absent: Sequence[str] = ()
) -> list[int | None]:
    """The class index of each category; None for one that is none of the classes.

    Args:
        source: the data set's file, for messages.
        categories: its names.
        classes: of the model.
        class_map: from the first to the second.
        absent: classes that the data set is known not to have.

    Raises:
        DataError: the mapping names a category that is not there; a class has no category and is not ``absent``.
    """
    for name in class_map:
        if name not in categories:
            raise DataError(f"{source}: class_map names {name!r}, {_has(name, categories)}")
    names = [class_map.get(name, name) for name in categories]
    for name in classes:
        if name not in names and name not in absent:
            raise DataError(
                f"{source}: no category of the class {name!r}, {_has(name, categories)}; name it in class_map, or in "
                "absent if the data set does not have it"
            )
    return [classes.index(name) if name in classes else None for name in names]


def _has(name: str, categories: Sequence[str]) -> str:
    return f"the file has {', '.join(categories)}{did_you_mean(name, categories)}"
