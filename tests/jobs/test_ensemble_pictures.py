from types import SimpleNamespace

import pytest

from covidmm.errors import DataError
from covidmm.jobs.ensemble_pictures import draw_ensemble


def test_a_raw_folder_has_no_pictures_to_draw_on(tmp_path):
    """Drawing itself is tested in test_ensemble.py."""
    outcome = SimpleNamespace(run=SimpleNamespace(cases=SimpleNamespace(annotations=None, source="raw")))
    with pytest.raises(DataError, match="raw: pictures are drawn of prepared folders only"):
        draw_ensemble(tmp_path, outcome, {}, {}, {}, "ensemble")
    assert not list(tmp_path.iterdir())
