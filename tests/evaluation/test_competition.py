import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.errors import DataError
from covidmm.evaluation.competition import CLASSES, labels_of, read_label_files, score_submission
from covidmm.findings import STUDY_CLASSES, Detections
from covidmm.outputs.kaggle import image_row, read_submission, study_row, write_submission

BOX = np.array([[10.0, 10, 60, 80]])
NO_BOX = np.zeros((0, 4))


def annotated(image_id, boxes, study_class, study_id=None):
    return AnnotatedImage(Path("raw.dcm"), image_id, study_id or image_id[0], boxes, study_class=study_class)


LABELS = labels_of(
    [
        annotated("a1", BOX, "typical"),
        annotated("a2", NO_BOX, "typical"),
        annotated("b1", NO_BOX, "negative"),
        annotated("c1", BOX, "indeterminate"),
        annotated("d1", BOX, "atypical"),
    ],
    "labels",
)


def perfect():
    return {identifier: list(row) for identifier, row in LABELS.rows.items()}


def test_the_truth_scores_one():
    found = score_submission(LABELS, perfect())
    assert found == {"score": 1.0, "per_class": dict.fromkeys(CLASSES, 1.0), "classes": 6}


def test_real_labels_scored_against_themselves_give_one(make, tmp_path):
    labels = read_label_files(make.siim(tmp_path, 24))
    assert score_submission(labels, labels.rows)["per_class"] == dict.fromkeys(CLASSES, 1.0)


@pytest.mark.realdata
def test_the_challenge_s_own_labels_scored_against_themselves_give_one(realdata, tmp_path):
    labels = read_label_files(realdata / "labels" / "siim")
    studies = {i.removesuffix("_study"): row for i, row in labels.rows.items() if i.endswith("_study")}
    images = {i.removesuffix("_image"): row for i, row in labels.rows.items() if i.endswith("_image")}
    write_submission(tmp_path / "truth.csv", studies, images)
    start = time.process_time()
    found = score_submission(labels, read_submission(tmp_path / "truth.csv"))
    assert found["per_class"] == dict.fromkeys(CLASSES, 1.0)
    assert time.process_time() - start < 20


def test_a_worked_example():
    """Two studies of one class by hand: a false positive above the hit halves the precision."""
    submission = perfect()
    # negative: b is right at 0.4, a is wrong at 0.6 -> AP 0.5; typical: a at 0.3, the only one -> AP 1
    submission["a_study"] = study_row([0.6, 0.3, 0.1, 0.0])
    submission["b_study"] = study_row([0.4, 0.0, 0.0, 0.6])
    # atypical: b wrong at 0.6, d right at 1 -> AP 1
    # opacity: two of three found, one false alarm last -> recall 2/3 at precision 1
    submission["c1_image"] = image_row(Detections([[200, 200, 220, 230]], [0.1]), 0.0)
    found = score_submission(LABELS, submission)["per_class"]
    assert found["negative"] == pytest.approx(0.5)
    assert found["typical"] == found["indeterminate"] == found["atypical"] == 1
    assert found["opacity"] == pytest.approx(2 / 3)
    # none: right on a2 and b1 at 1, wrong on c1 at 0 comes last
    assert found["none"] == 1


def test_an_overlap_of_exactly_half_is_no_match():
    labels = labels_of([annotated("i", np.array([[0.0, 0, 10, 10]]), "typical", "s")], "labels")
    for width, expected in ((5.0, 0.0), (5.1, 1.0)):
        row = image_row(Detections([[0, 0, width, 10]], [0.9]), 0.0)
        found = score_submission(labels, {"s_study": study_row([0, 1, 0, 0]), "i_image": row})
        assert found["per_class"]["opacity"] == expected


def test_a_class_that_no_label_has_does_not_count():
    labels = labels_of([annotated("i", BOX, "typical", "s")], "labels")
    found = score_submission(labels, labels.rows)
    assert found["per_class"]["negative"] is None
    assert (found["classes"], found["score"]) == (2, 1.0)


def test_nothing_is_scored_on_a_part():
    submission = perfect()
    del submission["c1_image"]
    with pytest.raises(DataError, match=r"mine\.csv: lacks 1 ids .*: c1_image"):
        score_submission(LABELS, submission, "mine.csv")
    with pytest.raises(DataError, match="has, beside those, 1 ids"):
        score_submission(LABELS, {**perfect(), "z_study": []})
    with pytest.raises(DataError, match="1 studies have no class, such as 'b'"):
        labels_of([annotated("i", BOX, None, "b")], "labels")


def test_label_files_with_unusable_rows_or_empty_studies_are_refused(make, tmp_path):
    raw = make.siim(tmp_path / "raw", 8)
    table = raw / "train_study_level.csv"
    table.write_text(table.read_text() + "lonely_study,1,0,0,0\n")
    with pytest.raises(DataError, match="1 studies have no image, such as 'lonely'"):
        read_label_files(raw)
    table.write_text(table.read_text() + "two_study,1,1,0,0\n")
    with pytest.raises(DataError, match=r"train_study_level\.csv: .*unknown study label.*\(1 unusable rows\)"):
        read_label_files(raw)


def test_intervals_hold_the_score_and_shrink_with_studies():
    def made(copies):
        images = []
        rng = np.random.default_rng(0)
        submission = {}
        for number in range(copies):
            name = STUDY_CLASSES[number % 4]
            study, image = f"s{number}", f"i{number}"
            images.append(annotated(image, NO_BOX if name == "negative" else BOX, name, study))
            submission[f"{study}_study"] = study_row(rng.dirichlet(np.ones(4) + 4 * np.eye(4)[number % 4]))
            submission[f"{image}_image"] = image_row(Detections(BOX, [rng.uniform()]), float(rng.uniform()))
        return score_submission(labels_of(images, "labels"), submission, with_intervals=True)

    few, many = made(24), made(240)
    for found in (few, many):
        low, high = found["score_interval"]
        assert low <= found["score"] <= high
        assert set(found["per_class_interval"]) == set(CLASSES)
    assert np.diff(many["score_interval"])[0] < 0.6 * np.diff(few["score_interval"])[0]


def test_labels_keep_where_they_come_from():
    assert dataclasses.replace(LABELS, source="x").source == "x"
    assert LABELS.rows["a2_image"][0].name == "none"
    assert [one.name for one in LABELS.rows["a_study"]] == ["typical"]
