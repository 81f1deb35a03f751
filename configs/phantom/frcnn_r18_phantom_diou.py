"""The demo's detector with DIoU as the box loss of the second stage; see docs/box-losses.md for the weight."""

_base_ = "./frcnn_r18_phantom.py"

model = dict(
    roi_head=dict(
        bbox_head=dict(reg_decoded_bbox=True, loss_bbox=dict(_delete_=True, type="DIoULoss", loss_weight=10.0))
    )
)
