import numpy as np
import pytest

from covidmm.ensembles.single import BestSingle
from covidmm.errors import ConfigError
from covidmm.findings import Detections

MEMBERS = [Detections([[k, 0, 9, 9], [0, 0, 1, 1]], [0.2, 0.1 * (k + 1)]) for k in range(3)]


@pytest.mark.parametrize(
    ("member", "weights", "chosen"), [(None, [1, 3, 2], 1), (None, [1, 1, 1], 0), (2, [9, 1, 1], 2), (0, [1, 2, 3], 0)]
)
def test_the_named_or_the_heaviest_member_is_passed_on(member, weights, chosen):
    found = BestSingle(member).fuse(MEMBERS, weights, (10, 10))
    assert [chosen, 0, 9, 9] in found.boxes.tolist()
    np.testing.assert_allclose(np.sort(found.scores), np.sort(MEMBERS[chosen].scores))


def test_a_member_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="there is no member 3, the last one is 2"):
        BestSingle(3).fuse(MEMBERS, [1, 1, 1], (10, 10))
