import io

import numpy as np
import pytest
from PIL import Image

from covidmm.web.previews import png


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (64, 64)])
def test_a_png_gives_the_same_grey_values_to_another_reader(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    picture = Image.open(io.BytesIO(png(pixels)))
    assert picture.mode == "L"
    assert (np.asarray(picture) == pixels).all()
