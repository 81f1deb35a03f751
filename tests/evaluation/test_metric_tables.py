from covidmm.evaluation.metric_tables import format_comparison, format_table

ONE = {
    "mAP_50": 0.409, "f1": 0.547, "recall": 0.503, "precision": 0.603, "threshold": 0.25,
    "mAP_50_interval": [0.35, 0.46],
}  # fmt: skip


def test_detectors_stand_side_by_side_with_intervals():
    text = format_comparison({"detectors": {"frcnn": ONE, "ensemble": {**ONE, "mAP_50": 0.451}}}, 30)
    lines = text.splitlines()
    assert lines[0].split() == ["frcnn", "ensemble"]
    assert lines[1].split() == ["mAP@.50", "0.409", "[0.350", "0.460]", "0.451", "[0.350", "0.460]"]
    assert [line.split("  ")[0] for line in lines[2:5]] == ["F1", "mean recall", "mean precision"]
    assert "over 30 studies" in lines[-1]
    assert len({len(line) for line in lines[:5]}) == 1


def test_every_class_has_its_rows_and_intervals():
    own = {"nodule": {**ONE, "froc": 0.7, "froc_interval": [0.6, 0.8], "ece": None, "boxes": 3}, "mass": {"boxes": 0}}
    text = format_comparison({"detectors": {"a": {**ONE, "froc": 0.7, "ece": 0.1, "per_class": own}}}, 30)
    lines = [line.split() for line in text.splitlines()]
    nodule, mass = lines.index(["nodule:"]), lines.index(["mass:"])
    assert ["mAP@.50", "0.409", "[0.350", "0.460]"] in lines[nodule:mass]
    assert ["FROC", "0.700", "[0.600", "0.800]"] in lines[nodule:mass]
    assert ["score", "error", "-"] in lines[nodule:mass]
    assert ["score", "error", "0.100"] in lines[:nodule]
    assert ["FROC", "-"] in lines[mass:]


def test_what_counts_by_convention_is_said():
    study = {"accuracy": 0.5, "absent": ["atypical"], "unclassified": 2}
    text = format_comparison({"detectors": {"a": {**ONE, "unreadable": 3}}, "study": study}, 30)
    assert "3 images that cannot be read count as without a box found" in text
    assert "(means without atypical, which no label has; 2 studies that could not be classified count as neg" in text
    assert "count as" not in format_comparison({"detectors": {"a": {**ONE, "unreadable": 0}}}, 30)


def test_studies_and_the_competition_follow_where_they_were_scored():
    found = {
        "detectors": {"a": ONE},
        "study": {"accuracy": 0.669, "f1": 0.482, "mAP": 0.405, "mAP_interval": [0.3, 0.5]},
        "competition": {"score": 0.5, "score_interval": [0.4, 0.6], "per_class": {"negative": 0.7, "atypical": None}},
    }
    text = format_comparison(found, 30)
    assert "studies: accuracy 0.669, macro F1 0.482, mAP 0.405 [0.300 0.500]" in text
    assert "competition score 0.500 [0.400 0.600]: negative 0.700, atypical - (without atypical, which" in text


def test_table():
    table = format_table({"frcnn": {**ONE, "mAP": 0.15, "threshold": 0.31}, "a long name": {"mAP_50": 1.0}})
    head, rule, first, second = table.splitlines()
    assert len({len(line) for line in (head, rule, first, second)}) == 1
    assert head.split() == ["mAP@.50", "mAP@.50:.95", "F1", "Precision", "Recall", "Threshold"]
    assert first.split() == ["frcnn", "0.409", "0.150", "0.547", "0.603", "0.503", "0.310"]
    assert second.split() == ["a", "long", "name", "1.000", "-", "-", "-", "-", "-"]
    assert first.index("0.409") + 5 == head.index("mAP@.50") + 7
