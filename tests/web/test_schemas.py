import pytest
from pydantic import ValidationError

from covidmm.web.schemas import NOTICE, Box, Prediction


def test_every_prediction_says_what_the_software_is_not():
    assert Prediction.model_fields["notice"].default == NOTICE == "Research software, not a medical device."


@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_a_score_lies_in_0_to_1(score):
    with pytest.raises(ValidationError):
        Box(name="opacity", score=score, x=0, y=0, width=1, height=1)
