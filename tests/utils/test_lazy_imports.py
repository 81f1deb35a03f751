"""What MMDetection imports for lanes and tracks is imported when it is used, and then works as without covidmm."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.e2e  # starts a Python for each question

SLOW = ("imgaug", "sklearn", "matplotlib.pyplot", "scipy", "numba")


def run(code):
    """What a program prints in a process of its own: this one has imported everything long ago."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_training_s_imports_leave_them_out_and_others_get_the_real_ones():
    *_, before, after = run(
        f"""
        import sys
        import covidmm.registration
        print([name for name in {SLOW} if name in sys.modules])
        import imgaug.augmenters, matplotlib.pyplot, sklearn.base
        print(imgaug.__file__ is not None, callable(matplotlib.pyplot.figure), type(sklearn.base.BaseEstimator))
        """
    )
    assert before == "[]"
    assert after == "True True <class 'type'>"


LANES = """
    import numpy as np
    from mmdet.datasets.transforms.generate_line import ImageAug
    flip = ImageAug([
        dict(name='Resize', parameters=dict(size=dict(height=8, width=16)), p=1.0),
        dict(name='HorizontalFlip', parameters=dict(p=1.0), p=1.0),
    ])
    image = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)
    lane = dict(img=image, instances=[dict(line=[(2, 1), (3, 6)])], gt_seg_map=np.eye(8, 16, dtype=np.int32))
    flipped = flip(lane)
    lines = [[list(map(float, point)) for point in line] for line in flipped['lines']]
    print(int(flipped['img'].sum()), lines, flipped['gt_seg_map'].tolist())
"""
TRACKS = """
    import numpy as np
    from mmdet.models.task_modules.tracking.interpolation import InterpolateTracklets
    track = np.array([[frame, 1, frame, frame, frame + 9, frame + 9, 0.9] for frame in (0, 1, 2, 3, 6, 7, 8)], float)
    print(InterpolateTracklets(min_num_frames=3, use_gsi=True).forward(track).round(3).tolist())
"""
MIXTURES = """
    import numpy as np
    from mmdet.models.dense_heads import paa_head
    found = paa_head.skm.GaussianMixture(2, random_state=0).fit(np.array([[0.0], [0.1], [5.0], [5.1]]))
    print(sorted(found.means_.round(2).ravel().tolist()))
"""
ASSIGNMENTS = """
    import torch
    from mmdet.models.task_modules.assigners import HungarianAssigner
    from mmengine.structures import InstanceData
    assigner = HungarianAssigner(dict(type="mmdet.BBoxL1Cost"))
    boxes = torch.tensor([[0.0, 0, 5, 5], [1, 1, 9, 9], [2, 2, 3, 3]])
    found = assigner.assign(
        InstanceData(bboxes=boxes), InstanceData(bboxes=boxes[[2, 0]], labels=torch.zeros(2).long()),
        dict(img_shape=(10, 10)))
    print(found.gt_inds.tolist())
"""
FILTERS = """
    import numpy as np
    from mmdet.models.task_modules.tracking import KalmanFilter
    filtered = KalmanFilter()
    mean, spread = filtered.initiate(np.array([5.0, 5, 1, 4]))
    print(filtered.update(*filtered.predict(mean, spread), np.array([6.0, 5, 1, 4]))[0].round(4).tolist())
"""
CORRUPTIONS = """
    import numpy as np
    from mmdet.datasets.transforms.transforms import corrupt
    print(corrupt(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3), 2, "contrast").sum())
"""


def test_the_parts_work_as_with_their_imports_made_at_once():
    parts = map(textwrap.dedent, (LANES, TRACKS, MIXTURES, ASSIGNMENTS, FILTERS, CORRUPTIONS))
    program = "import covidmm.utils.lazy_imports\n{first}\n" + "".join(parts)
    found, expected = (
        run(program.replace("{first}", first)) for first in ("", "covidmm.utils.lazy_imports.PUT_OFF.clear()")
    )
    assert len(found) >= 6
    assert found[-6:] == expected[-6:]


def test_what_is_not_installed_fails_as_ever():
    assert (
        run(
            """
        import importlib.util, sys
        import covidmm
        sys.modules['sklearn'] = None
        from mmdet.models.task_modules.tracking import interpolation
        print(interpolation.HAS_SKIKIT_LEARN)
        """
        )[-1]
        == "False"
    )


def test_imports_that_stay_are_no_garbage_and_later_ones_are_collected_as_ever():
    lines = run(
        """
        import gc
        from covidmm.utils.lazy_imports import imports_that_stay
        with imports_that_stay():
            import covidmm.registration
            print(gc.isenabled())
        print(gc.isenabled(), gc.get_freeze_count() > 100_000)  # half a million
        frozen = gc.get_freeze_count()
        with imports_that_stay():
            print(gc.isenabled())
        print(gc.get_freeze_count() <= frozen)
        """
    )
    assert lines[-4:] == ["False", "True True", "True", "True"]
