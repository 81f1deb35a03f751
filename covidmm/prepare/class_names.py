"""Names of the classes of a data set, cleaned once."""

from __future__ import annotations

from collections.abc import Iterable

from covidmm.errors import DataError


class ClassNames:
    """The classes of a data set, in the order in which its files name them."""

    #: Stands for an image without any, where splits are balanced.
    NOTHING = "none of them"

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The cleaned names, by class index."""
        return tuple(self._names.values())

    def add(self, name: object, source: str) -> int:
        """Take a name into the list, if it is not there, and give its index.

        Args:
            name: as it stands in a file; spaces around and several inside are no part of it.
            source: the file, for messages.

        Raises:
            DataError: it is no name, or differs from another one by case, spaces, hyphens or underscores alone.
        """
        cleaned = " ".join(name.split()) if isinstance(name, str) else ""
        if not cleaned or not cleaned.isprintable():
            raise DataError(f"{source}: {name!r} is no name of a class")
        key = cleaned.casefold().replace("_", " ").replace("-", " ")
        known = self._names.setdefault(key, cleaned)
        if known != cleaned:
            raise DataError(f"{source}: two classes are called {known!r} and {cleaned!r}; give them one name")
        return list(self._names).index(key)

    def add_each(self, names: Iterable[object], source: str) -> list[int]:
        """Take the names of a list of classes, and give their indices.

        Raises:
            DataError: as :meth:`add`, or a name is in the list twice.
        """
        indices: list[int] = []
        for name in names:
            index = self.add(name, source)
            if index in indices:
                raise DataError(f"{source}: two classes are called {name!r}")
            indices.append(index)
        return indices

    def index(self, name: str) -> int:
        """The index of a name that is in the list."""
        return self.names.index(" ".join(name.split()))
