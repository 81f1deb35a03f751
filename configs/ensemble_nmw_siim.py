"""The report's ensemble with another strategy; its numbers are chosen here."""

_base_ = "./ensemble_wbf_siim.py"

strategy = dict(_delete_=True, type="nmw", iou_thr=0.55)
