"""A radiograph to try the application with: a phantom, drawn by a program, of no patient."""

from __future__ import annotations

from functools import cache

#: Sizes in pixels and a place in the set; chosen here for a picture with opacities that is quick to draw.
_SEED, _INDEX, _SIZE = 7, 1, (1024, 1024)


@cache
def sample_file() -> bytes:
    """The DICOM file, drawn once."""
    from covidmm.phantom.dicom import encode
    from covidmm.phantom.study import plan_study, render

    study = plan_study(_SEED, _INDEX, _SIZE)
    return encode(study, 0, render(study, 0).grey)
