"""Against the reliability of labels, on weights that repeat studies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.evaluation.box_calibration import BoxCalibration
from covidmm.evaluation.classification import reliability
from covidmm.evaluation.ranking import Ranking

BOX = st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 3))


@given(st.lists(BOX, max_size=40), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(1, 12))
def test_a_weight_is_a_study_repeated(boxes, weights, bins):
    own = [[one for one in boxes if one[2] == study] for study in range(4)]
    scores = [np.array([one[0] / 20 for one in part], float) for part in own]
    hits = [np.array([one[1] for one in part], bool) for part in own]
    ranking = Ranking.of(scores, hits, [1] * 4)
    found = BoxCalibration(ranking, bins)
    times = np.repeat(weights, [len(part) for part in own])
    drawn = [np.repeat(np.concatenate(part), times) for part in (scores, hits)]
    if len(drawn[0]):
        assert found.ece(np.array(weights, float)) == pytest.approx(reliability(*drawn, bins)["ece"], abs=1e-12)
    else:
        assert np.isnan(found.ece(np.array(weights, float)))
    if boxes:
        whole = reliability(ranking.scores, ranking.hits, bins)
        assert found.ece() == pytest.approx(whole["ece"], abs=1e-12)
        assert found.rows == whole["bins"]
    else:
        assert np.isnan(found.ece())
        assert found.rows == []
