"""The report's ensemble with another strategy; its numbers are chosen here."""

_base_ = "./ensemble_wbf_siim.py"

strategy = dict(_delete_=True, type="soft_nms", iou_thr=0.5, sigma=0.5)
