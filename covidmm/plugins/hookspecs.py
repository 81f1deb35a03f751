"""The two hooks that a plugin may implement, and the protocols of what it provides.

A plugin is a module or object with functions of these names, marked by :data:`hookimpl`. An installed package
is found by its entry point in the group ``covidmm``::

    from covidmm.plugins import hookimpl

    @hookimpl
    def covidmm_ensemble_strategies():
        return {"my_strategy": MyStrategy}

A config then chooses it by name, the other keys being the arguments of the factory::

    strategy = dict(type="my_strategy", sigma=0.5)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pluggy
from numpy.typing import NDArray

from covidmm.findings import Detections, Study

PROJECT = "covidmm"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@runtime_checkable
class EnsembleStrategy(Protocol):
    """Fuses the boxes of several detectors on one image into one set.

    A method ``require_members(names)``, where there is one, is called with the names of the members before anything is
    predicted, and raises a ``ConfigError`` where it cannot fuse them; it needs members that find the same classes. A
    method ``require_voters(voters)`` gets, by class, the names of the members that find it.
    """

    def fuse(self, members: Sequence[Detections], weights: Sequence[float], size: tuple[int, int]) -> Detections:
        """Fuse one image.

        Args:
            members: what each detector found, boxes in pixels of the original image.
            weights: one positive number per member.
            size: height and width of the original image in pixels.

        Returns:
            The fused boxes, in pixels of the original image.
        """
        ...


@runtime_checkable
class StudyClassifier(Protocol):
    """Gives the probability of each class of a study.

    What it classifies into is said by attributes, which :class:`covidmm.findings.StudyLabels` reads:

    * ``classes``: a tuple of C names. A classifier without it is one of SIIM's four,
      :data:`covidmm.findings.STUDY_CLASSES`.
    * ``multi_label``: whether any number of classes can hold, not exactly one; False by default.
    * ``negative``: the class which says that nothing is there, that the rules of ``none`` ask for; None by default.

    Two more save work where they are there and False: ``uses_detections``, then the results stay valid when
    the detectors or their fusion change; ``uses_pixels``, then no image is decoded and radiographs have no pixels.

    A method ``require_classes(names)``, where there is one, is called with the names of the classes of boxes before
    anything is predicted and before ``classes`` is read, and raises a ``ConfigError`` where it cannot use them.
    """

    def classify(self, study: Study) -> NDArray[np.float32]:
        """Classify one study.

        Returns:
            (C,) probabilities in the order of ``classes``, each in 0..1; they add up to 1 unless ``multi_label``.
        """
        ...


@hookspec
def covidmm_ensemble_strategies() -> Mapping[str, Callable[..., EnsembleStrategy]]:
    """Return the ensemble strategies of this plugin.

    Returns:
        Name to factory. A factory takes the keys of the config's ``strategy`` dict, ``type`` aside, as keyword
        arguments and returns an :class:`EnsembleStrategy`.
    """


@hookspec
def covidmm_study_classifiers() -> Mapping[str, Callable[..., StudyClassifier]]:
    """Return the study classifiers of this plugin.

    Returns:
        Name to factory. A factory takes the keys of the config's ``study`` dict, ``type`` aside, as keyword
        arguments and returns a :class:`StudyClassifier`.
    """
