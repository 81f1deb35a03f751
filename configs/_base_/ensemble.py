"""What every ensemble shares. Numbers are those of the report, section 6, unless marked otherwise."""

# 'none' of an image: the winners blended prod(1 - conf) with the study's probability of negative; half and half is
# chosen here
none = dict(rule="blend", weight=0.5)
# conf**a * (1 - none)**b; the fourth-placed team of the challenge gained 0.004 by it; off by default
rerank = None
# longer side that tools/prepare.py shrinks to by default, so that raw and prepared folders give the same boxes
max_size = 1024
batch_size = 4  # chosen here

strategy = dict(
    type="wbf",
    iou_thr=0.55,
    skip_box_thr=0.0,  # the members' own thresholds do it
    # the report names no value for the suppression after the fusion; 0.5 is chosen here
    final_nms=0.5,
)
