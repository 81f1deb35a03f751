"""The classes that an ensemble finds, and which of its members finds which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from covidmm.datasets.class_mapping import class_indices, mapped_names
from covidmm.ensembles.ensemble_config import EnsembleConfig, Member
from covidmm.errors import ConfigError, DataError
from covidmm.findings import OPACITY
from covidmm.inference.detector import trained_classes
from covidmm.plugins import EnsembleStrategy


@dataclass(frozen=True)
class EnsembleClasses:
    """The classes of an ensemble.

    Attributes:
        names: by class index.
        indices: by member, the class index of each of its own classes; None for one that takes no part.
    """

    names: tuple[str, ...] = OPACITY
    indices: Mapping[str, tuple[int | None, ...]] | None = None

    @classmethod
    def of(cls, config: EnsembleConfig) -> EnsembleClasses:
        """Those of a config: what it names, or all that its members find, in their order.

        Raises:
            ConfigError: a member finds a class that the ensemble does not name, or none that it names; a config that
                cannot be read.
            CheckpointError: a checkpoint is missing.
        """
        own = {name: trained_classes(member) for name, member in config.members.items()}
        maps = {name: member.class_map or {} for name, member in config.members.items()}
        names = config.classes
        if names is None:
            names = tuple(dict.fromkeys(one for name in own for one in mapped_names(own[name], maps[name])))
        found = cls(names, {name: _indices(name, own[name], names, maps[name]) for name in own})
        if nobody := [f"'{name}'" for label, name in enumerate(names) if not found.voters(label, tuple(own))]:
            raise ConfigError(f"{config.path}: classes: no member finds {', '.join(nobody)}")
        return found

    def voters(self, label: int, members: Sequence[str]) -> tuple[str, ...]:
        """Those of some members that find a class."""
        return tuple(name for name in members if self.indices is None or label in self.indices[name])

    def require_fits(self, strategy: EnsembleStrategy) -> None:
        """Refuse a strategy that does not know these classes and their voters.

        One with ``require_voters`` looks itself; another with ``require_members`` knows its members by their places,
        so that all of them must have a vote on each class.

        Raises:
            ConfigError: it does not.
        """
        every = tuple(self.indices or ())
        if require := getattr(strategy, "require_voters", None):
            require({name: self.voters(label, every) for label, name in enumerate(self.names)})
            return
        if not hasattr(strategy, "require_members"):
            return
        for label, name in enumerate(self.names):
            if (voters := self.voters(label, every)) != every:
                kind = type(strategy).__name__
                raise ConfigError(
                    f"strategy: {kind} needs members of the same classes, but '{name}' is found by {', '.join(voters)}"
                )

    def key(self, member: Member | None, name: str) -> dict[str, object]:
        """What of the classes decides a member's predictions; nothing where it finds opacities alone."""
        if self.names == OPACITY and (member is None or member.class_map is None):
            return {}
        return {"classes": list(self.names), "class_indices": list((self.indices or {}).get(name, ()))}


def _indices(member: str, own: Sequence[str], names: Sequence[str], class_map: Mapping[str, str | None]) -> tuple:
    try:
        indices = class_indices(f"member '{member}'", own, names, class_map, absent=names)
    except DataError as error:
        raise ConfigError(str(error).replace("the file has", "it finds")) from error
    shown = ", ".join(own[:3]) + (", ..." if len(own) > 3 else "")
    unknown = [one for one, index in zip(own, indices, strict=True) if index is None and class_map.get(one, one)]
    if unknown or all(index is None for index in indices):
        fused = ", ".join(f"'{one}'" for one in names) + (" alone" if len(names) == 1 else "")
        hint = f"; class_map = {{{unknown[0]!r}: None}} leaves one out" if unknown and len(names) > 1 else ""
        raise ConfigError(f"member '{member}': finds {len(own)} classes ({shown}), the ensemble fuses {fused}{hint}")
    return tuple(indices)
