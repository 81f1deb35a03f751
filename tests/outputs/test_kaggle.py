import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.errors import ConfigError, DataError
from covidmm.findings import Detections, StudyLabels
from covidmm.outputs.kaggle import (
    NoneRule,
    Prediction,
    Rerank,
    image_row,
    read_submission,
    require_ids,
    study_row,
    write_submission,
)

BOXES = Detections([[10, 20.126, 30, 40], [1, 2, 3, 4]], [0.75, 0.1])


def write(path, text):
    path.write_text("id,PredictionString\n" + text)
    return path


def test_the_format_is_kaggle_s(tmp_path):
    path = tmp_path / "new" / "submission.csv"
    studies = {"00086460a852": study_row([0.62, 0.2, 0.1, 0.08]), "gone": study_row(None)}
    write_submission(path, studies, {"000a312787f2": image_row(BOXES, 0.225), "broken": image_row(None)})
    assert path.read_text().splitlines() == [
        "id,PredictionString",
        "00086460a852_study,negative 0.62 0 0 1 1 typical 0.2 0 0 1 1 indeterminate 0.1 0 0 1 1 atypical 0.08 0 0 1 1",
        "gone_study,negative 1 0 0 1 1",
        "000a312787f2_image,opacity 0.75 10 20.13 30 40 opacity 0.1 1 2 3 4 none 0.225 0 0 1 1",
        "broken_image,none 1 0 0 1 1",
    ]
    assert list(pd.read_csv(path)["id"]) == ["00086460a852_study", "gone_study", "000a312787f2_image", "broken_image"]


@given(
    st.lists(
        st.tuples(st.floats(0, 1, width=32), st.integers(0, 900), st.integers(0, 900), st.integers(1, 99)), max_size=6
    )
)
def test_what_is_written_is_read_again(tmp_path_factory, boxes):
    path = tmp_path_factory.mktemp("submission") / "a.csv"
    found = Detections([[x, y, x + s, y + s] for _, x, y, s in boxes], [score for score, *_ in boxes])
    write_submission(path, {}, {"i": image_row(found, 0.5)})
    row = read_submission(path)["i_image"]
    assert [one.name for one in row] == ["opacity"] * len(boxes) + ["none"]
    for one, (score, x, y, s) in zip(row, boxes, strict=False):
        assert one.score == pytest.approx(score, abs=1e-6)
        assert one.box == (x, y, x + s, y + s)


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "a,b", 'a"b', "a\nb", "../a", "a/b", "a ", ""])
def test_an_id_that_is_a_formula_a_path_or_breaks_the_file_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="cannot be an id"):
        write_submission(tmp_path / "a.csv", {}, {name: image_row(None)})
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a_image,opacity 0.5 1 2 3\n", "line 2, id 'a_image': expected groups of six .* got 5 words"),
        ("a_image,opacty 0.5 1 2 3 4\n", "unknown class 'opacty', expected none, opacity"),
        ("a_study,opacity 0.5 1 2 3 4\n", "unknown class 'opacity', expected negative"),
        ("a_image,opacity x 1 2 3 4\n", "could not convert string to float: 'x'"),
        ("a_image,opacity nan 1 2 3 4\n", "is not finite"),
        ("a_image,opacity 1.5 1 2 3 4\n", r"confidence 1\.5 outside 0\.\.1"),
        ("a_image,opacity 0.5 3 2 3 4\n", "a box without an area: 3 2 3 4"),
        ("a_image,none 1 0 0 1 1\na_image,none 1 0 0 1 1\n", "line 3, id 'a_image': occurs twice"),
        ("a,none 1 0 0 1 1\n", "ends neither in _study nor in _image"),
        ("a_image,\n", "expected groups of six .* got 0 words"),
        ("a_image\n", "line 2: 1 fields, the header has 2"),
        ("a_image,none 1 0 0 1 1,opacity 0.9 1 2 3 4\n", "line 2: 3 fields, the header has 2"),
        ("a_image,opacity 1 0 0 1_0 1\n", "'1 0 0 1_0 1' are no plain numbers"),
        ("a_image,opacity 1 0 0 \u0663 1\n", "are no plain numbers"),
        ("a_image,opacity 1 0 0 1e300 1\n", "is not finite"),
        ("a_image,none 1 0 0 2 2\n", "class 'none' once and with the box 0 0 1 1"),
        ("a_image,none 1 0 0 1 1 none 0 0 0 1 1\n", "class 'none' once"),
        ("a_study,typical 1 0 0 1 1 typical 0 0 0 1 1\n", "class 'typical' once"),
        ("_image,none 1 0 0 1 1\n", "id '_image': cannot be an id"),
        ("../a_image,none 1 0 0 1 1\n", r"id '\.\./a_image': cannot be an id"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_submission(write(tmp_path / "a.csv", text))


def test_byte_order_marks_windows_lines_and_quotes_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfid,PredictionString\r\n"a_image","none 1 0 0 1 1"\r\n')
    rows = read_submission(path)
    assert rows["a_image"][0].name == "none"
    path.write_text("id,Prediction\n")
    with pytest.raises(DataError, match="has no column 'PredictionString'"):
        read_submission(path)
    with pytest.raises(DataError, match="no such file"):
        read_submission(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (image_row(None, float("nan")), "confidence nan outside"),
        (image_row(None, 1.5), r"confidence 1\.5 outside"),
        (study_row([0.1, -0.2, 0.3, 0.4]), r"confidence -0\.2 outside"),
        ([Prediction("opacity", 0.5, (5, 5, 5.004, 9))], "a box without an area: 5 5 5 9"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"a\.csv: 'i_image': {message}"):
        write_submission(tmp_path / "a.csv", {}, {"i": row})
    assert not (tmp_path / "a.csv").exists()


def test_a_box_too_thin_to_be_written_is_left_out():
    row = image_row(Detections([[5, 5, 5.004, 9], [-0.001, 0, 9, 9]], [0.9, 0.5]), 0.1)
    assert [(one.name, one.score) for one in row] == [("opacity", 0.5), ("none", 0.1)]


def test_there_is_no_minus_zero(tmp_path):
    write_submission(tmp_path / "a.csv", {}, {"i": image_row(Detections([[-0.001, 0, 9, 9]], [0.5]), 0.0)})
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "i_image,opacity 0.5 0 0 9 9 none 0 0 0 1 1"


def test_missing_and_strange_ids_are_named():
    require_ids(["a", "b"], ["b", "a"], "mine.csv", "sample.csv")
    with pytest.raises(DataError, match=r"mine\.csv: lacks 1 ids \(the 2 of sample\.csv are wanted\): b"):
        require_ids(["a"], ["a", "b"], "mine.csv", "sample.csv")
    with pytest.raises(DataError, match=r"has, beside those, 2 ids .*: c, d"):
        require_ids(["a", "c", "d"], ["a"], "mine.csv", "sample.csv")


def test_none_is_what_its_rule_says():
    scores = np.array([0.5, 0.2], np.float32)
    assert NoneRule("no_box").confidence(scores, None) == pytest.approx(0.4)
    assert NoneRule("negative").confidence(scores, 0.9) == 0.9
    assert NoneRule("blend", 0.25).confidence(scores, 0.8) == pytest.approx(0.25 * 0.4 + 0.75 * 0.8)
    assert NoneRule().confidence(np.zeros(0), None) == 1
    with pytest.raises(ConfigError, match="'blend' needs a study classifier"):
        NoneRule("blend").confidence(scores, None)
    with pytest.raises(ConfigError, match="a study classifier with a class for nothing there, not of a, b; use none"):
        NoneRule("blend").require_classifier(StudyLabels(("a", "b"), negative=None))
    NoneRule("no_box").require_classifier(None)
    NoneRule("blend").require_classifier(StudyLabels(("a", "b"), negative="b"))
    with pytest.raises(ConfigError, match="rule is 'box', it can be no_box, negative, blend"):
        NoneRule("box")
    with pytest.raises(ConfigError, match="weight must lie in"):
        NoneRule("blend", 2)


def test_reranking_is_the_winners_formula():
    scores = np.array([0.5, 0.9])
    assert Rerank()(scores, 0.7).tolist() == scores.tolist()
    assert Rerank(0.84, 0.16)(scores, 0.3) == pytest.approx(scores**0.84 * 0.7**0.16)
    assert Rerank(0.84, 0.16)(scores, 1.0).tolist() == [0, 0]
    with pytest.raises(ConfigError, match="exponents"):
        Rerank(-1)
