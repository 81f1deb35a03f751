"""Some of the configs that MMDetection ships; ``python -m tests.stress.shipped_configs`` reads all of them."""

import pytest

from tests.helpers.shipped_configs import SHIPPED, refusal, unexpected

#: Those whose keys are read in ways of their own, and every fiftieth.
TRIED = sorted(
    {
        "albu_example/mask-rcnn_r50_fpn_albu-1x_coco.py",
        "cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py",
        "cascade_rpn/cascade-rpn_r50-caffe_fpn_1x_coco.py",
        "ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py",
        "fpg/retinanet_r50_fpg_crop640_50e_coco.py",
        "guided_anchoring/ga-fast-rcnn_r50-caffe_fpn_1x_coco.py",
        "pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py",
        "queryinst/queryinst_r50_fpn_1x_coco.py",
        "v3det/dino-4scale_r50_8xb2_sample1e-3_v3det_36e.py",
        *SHIPPED[::50],
    }
)
#: Of these, the ones that MMDetection cannot use either.
BROKEN = {
    "cascade_rpn/cascade-rpn_r50-caffe_fpn_1x_coco.py",
    "guided_anchoring/ga-fast-rcnn_r50-caffe_fpn_1x_coco.py",
}


@pytest.mark.parametrize("name", TRIED)
def test_a_config_of_mmdetection_is_taken_or_refused_for_a_mistake_of_its_own(name):
    found = refusal(name)
    assert unexpected(name, found) is None
    assert found is not None or name not in BROKEN
