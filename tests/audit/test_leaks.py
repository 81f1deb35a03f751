from covidmm.audit.checks import Level
from covidmm.audit.leaks import check_leaks


def test_what_stands_in_one_split_is_no_leak(entry):
    check = check_leaks([entry(1), entry(2, "test"), entry(3, "val", patient=None)])
    assert check.level is Level.OK
    assert "1 images name no patient" in check.summary


def test_patients_studies_and_images_in_two_splits_are(entry):
    shared = entry(1), entry(2, "test", patient="patient1"), entry(3, "val", study_id="study1")
    check = check_leaks([*shared, entry(4), entry(4, "test")])
    assert check.level is Level.FAULT
    assert {what: check.numbers[what] for what in ("patient", "study", "image", "file")} == {
        "patient": 2,
        "study": 2,
        "image": 1,
        "file": 1,
    }
    assert ("patient", "a", "patient1", 1, 0, 1) in check.tables[0].rows


def test_ids_of_different_data_sets_have_nothing_to_do_with_each_other(entry):
    assert check_leaks([entry(1), entry(1, "test", dataset="b")]).level is Level.OK


def test_a_placeholder_patient_is_a_warning(entry):
    entries = [entry(number, "train" if number % 2 else "test", patient="0") for number in range(8)]
    check = check_leaks(entries)
    assert check.level is Level.WARNING
    assert "is a placeholder" in check.paragraph
