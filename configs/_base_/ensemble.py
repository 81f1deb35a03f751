"""What every ensemble shares. Numbers are those of the report, section 6, unless marked otherwise."""

# What is found; members with other classes name theirs by class_map. None takes all that the members find.
classes = ("opacity",)

# 'none' of an image: the winners blended prod(1 - conf) with the study's probability of negative; half and half is
# chosen here
none = dict(rule="blend", weight=0.5)
# conf**a * (1 - none)**b; the fourth-placed team of the challenge gained 0.004 by it; these do nothing
rerank = dict(score=1.0, none=0.0)
# longer side that tools/prepare.py shrinks to by default, so that raw and prepared folders give the same boxes
max_size = 1024
batch_size = 4  # chosen here

# What the models are made for: chest radiographs from the front. Other values of these attributes are refused, absent
# ones pass with a note; None takes everything. Chosen here, with the names that files have: OT and SC say how a picture
# came to be, not what it shows, and many public radiographs have no better.
accepts = dict(
    modality=("CR", "DX", "DR", "RG", "XR", "X-RAY", "OT", "SC"),
    body_part=(
        *("CHEST", "THORAX", "LUNG", "LUNGS", "CXR", "PORTCHEST", "CHESTPORT", "CHESTPA", "CHESTAP"),
        *("TORAX", "T?RAX", "TORACE", "PECHO", "PULMON", "PULMONES", "POLMONE", "POLMONI", "PULMAO", "PEITO"),
        *("POITRINE", "POUMON", "POUMONS", "BRUSTKORB", "BRUST", "LUNGE", "BORST", "LONGEN"),
        *("TORAKS", "AKCIGER", "KLATKA", "ГРУДЬ", "ГРУДНАЯ", "ЛЕГКИЕ", "ОГК", "胸", "胸部", "흉부"),
    ),
    view=("AP", "PA", "FRONTAL", "ANTEROPOSTERIOR", "POSTEROANTERIOR"),
)

strategy = dict(
    type="wbf",
    iou_thr=0.55,
    skip_box_thr=0.0,  # the members' own thresholds do it
    # the report names no value for the suppression after the fusion; 0.5 is chosen here
    final_nms=0.5,
)
