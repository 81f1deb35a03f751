from covidmm.reports.pages import detector_table, label_table, with_interval


def test_a_metric_has_its_interval_or_a_dash():
    metrics = {"f1": 0.5, "f1_interval": [0.25, 0.75], "recall": 1.0, "mAP": None}
    assert [with_interval(metrics, key) for key in ("f1", "recall", "mAP", "none")] == [
        "0.500 [0.250, 0.750]",
        "1.000",
        "-",
        "-",
    ]


def test_tables_have_a_column_per_metric():
    boxes = detector_table({"yolo": {"mAP_50": 0.5, "threshold": 0.3}})
    assert boxes.rows == [["yolo", "0.500", "-", "-", "-", "0.300"]]
    assert len(boxes.columns) == len(boxes.rows[0])
    labels = label_table({"accuracy": 0.25, "cases": 4})
    assert (labels.columns, labels.rows) == (("cases", "accuracy"), [("4", "0.250")])
