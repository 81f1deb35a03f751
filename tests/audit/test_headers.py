from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from covidmm.audit.checks import Level
from covidmm.audit.headers import check_headers, header_values

BOX = (10.0, 10.0, 20.0, 20.0)


def images(entry, photometric, count=120):
    chance = np.random.default_rng(0)
    made = []
    for number in range(count):
        positive = bool(chance.random() < 0.5)
        made.append(
            entry(
                number,
                boxes=[BOX] if positive else [],
                photometric=photometric(positive, chance),
                sex=str(chance.choice(["F", "M"])),
                age=int(chance.integers(20, 90)),
                original_width=1000,
                original_height=int(chance.integers(900, 1100)),
            )
        )
    return made


@pytest.mark.parametrize(
    ("photometric", "level"),
    [
        (lambda positive, chance: f"MONOCHROME{1 + positive}", Level.FAULT),
        (lambda positive, chance: f"MONOCHROME{1 + (positive if chance.random() < 0.7 else 0)}", Level.WARNING),
        (lambda positive, chance: f"MONOCHROME{chance.integers(1, 3)}", Level.OK),
        (lambda positive, chance: None, Level.OK),
    ],
    ids=["always", "mostly", "by chance", "missing"],
)
def test_the_level_follows_how_well_the_class_is_told(entry, photometric, level):
    made = images(entry, photometric)
    (check,) = check_headers(made)
    assert check.level is level
    if level:
        assert check.tables[0].rows[0][1] == "photometric"
        stored = [one.coco["photometric"] for one in made]
        bits = mutual_info_score([one.positive for one in made], stored) / np.log(2)
        assert check.numbers["mutual_information_bits"]["photometric"] == pytest.approx(bits, abs=1e-4)


def test_values_are_discrete_missing_ones_included(entry):
    made = [entry(n, age=n if n % 2 else None, sex="F", view="AP" if n < 2 else "PA") for n in range(80)]
    values = header_values(made)
    assert set(values) == {"age", "view"}  # sex is constant
    assert set(values["view"]) == {"rare", "PA"}
    assert values["age"][0] == "missing"
    assert len(set(values["age"])) == 6


def test_every_data_set_is_judged_by_itself(entry):
    checks = check_headers([entry(1), entry(1, dataset="b")])
    assert [check.name for check in checks] == ["headers a", "headers b"]
    assert all("not tested" in check.summary for check in checks)


def test_of_several_classes_each_is_told_by_itself(entry):
    chance = np.random.default_rng(1)
    made = []
    for number in range(160):
        labels = [label for label in range(3) if chance.random() < 0.4]
        view = "AP" if 1 in labels else "PA"
        one = entry(number, boxes=[BOX] * len(labels), study_class=None, view=view, sex=str(chance.choice(["F", "M"])))
        made.append(replace(one, labels=np.array(labels, np.int64), categories=("nodule", "effusion", "mass")))
    (check,) = check_headers(made)
    assert check.level is Level.FAULT
    assert check.summary.startswith("header alone predicts effusion")
    assert "view (adjusted mutual information 1.00 with effusion)" in check.paragraph
    information, classes = check.tables
    assert information.rows[0][:3] == ("a", "effusion", "view")
    expected = mutual_info_score([1 in one.labels for one in made], [one.coco["view"] for one in made]) / np.log(2)
    assert check.numbers["mutual_information_bits"]["effusion"]["view"] == pytest.approx(expected, abs=1e-4)
    assert classes.rows[0][0] == "effusion"
    assert {row[0] for row in classes.rows} >= {"nodule", "effusion", "mass"}
