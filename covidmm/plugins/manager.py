"""Find plugins and build what a config names, with errors that list what exists."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pluggy

from covidmm.errors import PluginError, did_you_mean
from covidmm.findings import StudyLabels
from covidmm.plugins import hookspecs
from covidmm.plugins.hookspecs import PROJECT, EnsembleStrategy, StudyClassifier

Factory = Callable[..., Any]


class UnknownArgumentError(PluginError):
    """A config gives a plugin an argument that it does not have.

    Args:
        plugin: its name.
        argument: the config's key.
        message: the line for the user.
    """

    def __init__(self, plugin: str, argument: str, message: str) -> None:
        super().__init__(message)
        self.plugin, self.argument = plugin, argument


class PluginManager:
    """Every plugin of this process.

    Args:
        plugins: modules or objects with hook implementations, beside the installed ones.
        installed: whether to load the packages with an entry point in the group ``covidmm``.

    Raises:
        PluginError: a plugin cannot be imported, implements a hook that does not exist, answers with something
            else than names and factories, or uses a name that another one has.
    """

    def __init__(self, plugins: Iterable[object] = (), installed: bool = True) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for plugin in plugins:
            self._register(plugin, getattr(plugin, "__name__", type(plugin).__name__))
        if installed:
            for entry in importlib.metadata.entry_points(group=PROJECT):
                self._register(_load(entry), entry.name)
        self._read()

    def register_modules(self, names: Iterable[str]) -> None:
        """Register the hook implementations of modules that a config imported.

        Raises:
            PluginError: as for the class.
        """
        for name in names:
            module = sys.modules[name]
            if not self._manager.is_registered(module):
                self._register(module, name)
        self._read()

    def _read(self) -> None:
        try:
            # pluggy itself ignores a misspelt hook, and the plugin would be missing without a word
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(" ".join(str(error).split())) from error
        self.strategies = self._answers("covidmm_ensemble_strategies")
        self.study_classifiers = self._answers("covidmm_study_classifiers")

    def build_strategy(self, config: Mapping[str, Any]) -> EnsembleStrategy:
        """Build the ensemble strategy of a dict such as ``dict(type='soft_nms', sigma=0.5)``.

        Raises:
            PluginError: an unknown name or argument, or something that is no strategy.
        """
        return _build("ensemble strategy", self.strategies, config, EnsembleStrategy)

    def build_study_classifier(self, config: Mapping[str, Any], finds: Sequence[str] | None = None) -> StudyClassifier:
        """Build the study classifier of a dict such as ``dict(type='resnext', checkpoint=...)``.

        Args:
            config: the dict.
            finds: classes of the boxes that it will see; None where they are not known yet, then neither they nor the
                classifier's own classes are checked.

        Raises:
            PluginError: an unknown name or argument, something that is no classifier, or classes that are none.
            ConfigError: it needs boxes of other classes.
        """
        built = _build("study classifier", self.study_classifiers, config, StudyClassifier)
        if finds is not None:
            if require := getattr(built, "require_classes", None):
                require(tuple(finds))
            try:
                StudyLabels.of(built)
            except PluginError as error:
                raise PluginError(f"study classifier '{config['type']}': {error}") from error
        return built

    def _register(self, plugin: object, name: str) -> None:
        try:
            self._manager.register(plugin, name)
        except (ValueError, pluggy.PluginValidationError) as error:
            raise PluginError(f"plugin '{name}': {' '.join(str(error).split())}") from error

    def _answers(self, hook: str) -> dict[str, Factory]:
        """Call a hook of every plugin and join the results."""
        found: dict[str, Factory] = {}
        owner: dict[str, str] = {}
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            answer = implementation.function()
            if not isinstance(answer, Mapping) or not all(
                isinstance(name, str) and callable(factory) for name, factory in answer.items()
            ):
                raise PluginError(f"plugin '{plugin}': {hook} must return a dict of names and factories")
            for name, factory in answer.items():
                if name in found:
                    raise PluginError(f"plugins '{owner[name]}' and '{plugin}' both have a '{name}' in {hook}")
                found[name], owner[name] = factory, plugin
        return found


def _load(entry: importlib.metadata.EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # foreign code can fail in any way
        package = entry.dist.name if entry.dist else entry.value
        cause = " ".join(str(error).split())
        raise PluginError(f"plugin '{entry.name}' of {package}: {type(error).__name__}: {cause}") from error


def is_place(name: Any) -> bool:
    """Whether a type is no plugin's name, but says where it is: ``module:Name`` or ``package.module.Name``."""
    return isinstance(name, str) and (":" in name or "." in name)


def module_of(name: str) -> str:
    """The module of such a type."""
    return name.partition(":")[0] if ":" in name else name.rpartition(".")[0]


def _at(what: str, name: str) -> Factory:
    """What such a type stands for; a module beside a config was imported when the config was read.

    Raises:
        PluginError: no such module, or nothing of that name in it.
    """
    attribute = name.removeprefix(module_of(name))[1:]
    try:
        module = importlib.import_module(module_of(name))
    except ImportError as error:
        raise PluginError(f"{what} '{name}': {error}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        hint = did_you_mean(attribute, [one for one in vars(module) if not one.startswith("_")])
        raise PluginError(f"{what} '{name}': {module.__name__} has no class or function '{attribute}'{hint}")
    return found


#: Parameters that a config can give by name.
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _build(what: str, factories: Mapping[str, Factory], config: Mapping[str, Any], protocol: type) -> Any:
    arguments = dict(config)
    name = arguments.pop("type", None)
    if is_place(name):
        factories = {name: _at(what, name)}
    if name not in factories:
        known = ", ".join(sorted(factories)) or "none"
        raise PluginError(f"unknown {what} '{name}'{did_you_mean(str(name), factories)}; there are: {known}")
    factory = factories[name]
    parameters = inspect.signature(factory).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in arguments:
            if key not in parameters:
                known = ", ".join(parameters) or "none"
                message = f"{what} '{name}' has no argument '{key}'{did_you_mean(key, parameters)}; it has: {known}"
                raise UnknownArgumentError(name, key, message)
    lacking = [
        key for key, p in parameters.items() if p.default is p.empty and p.kind in _NAMED and key not in arguments
    ]
    if lacking:
        key = "study" if what.startswith("study") else "strategy"
        given = " ".join(f"{key}.{one}=..." for one in lacking)
        raise PluginError(f"{what} '{name}' needs {', '.join(lacking)}: --cfg-options {key}.type={name} {given}")
    try:
        built = factory(**arguments)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{what} '{name}': {' '.join(str(error).split())}") from error
    if not isinstance(built, protocol):
        raise PluginError(f"{what} '{name}': {type(built).__name__} is no {protocol.__name__}")
    return built
