"""What the models of an ensemble are made for."""

from pathlib import Path

import pytest

from covidmm.ensembles.accepted_images import Accepts
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError, NotAcceptedError
from covidmm.radiograph import Header

SHIPPED = Path(__file__).parents[2] / "configs/small/ensemble_wbf_siim.py"


@pytest.fixture(scope="module")
def shipped():
    return load_ensemble(SHIPPED).accepts


def header(**values):
    return Header(Path("one.dcm"), 3, 3, **{"modality": "DX", "body_part": "CHEST", "view": "PA", **values})


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("modality", ["CR", "DX", "dx", " DX ", "DR", "RG", "OT", "SC", "X-Ray"]),
        (
            "body_part",
            [
                *("CHEST", "chest", " Thorax ", "PORT CHEST", "Tórax", "T\ufffdRAX", "T?RAX", "2- TORAX", "CHEST_PA"),
                *("Chest 2 views", "CHEST1V", "['CHEST', 'ABDOMEN']", "Lung", "PECHO", "胸部"),
            ],
        ),
        ("view", ["AP", "PA", "pa erect", "AP SUPINE", "A.P.", "ANTERO-POSTERIOR", "POSTERO_ANTERIOR", "Frontal"]),
    ],
)
def test_names_that_files_have_are_taken(shipped, field, values):
    for value in values:
        assert shipped.check(header(**{field: value})) == (), value


@pytest.mark.parametrize(
    ("field", "values", "attribute"),
    [
        ("modality", ["CT", "MR", "US", "MG", "RF", "XA", "SR", "ct", "RTDOSE"], "Modality"),
        ("body_part", ["LEG", "HAND", "Skull", "BREAST", "CSPINE", "ABDOMEN", "T SPINE"], "BodyPartExamined"),
        ("view", ["LL", "RL", "LATERAL", "XTABLE LATERAL", "LLO"], "ViewPosition"),
    ],
)
def test_others_are_refused_by_name_and_cause(shipped, field, values, attribute):
    for value in values:
        with pytest.raises(
            NotAcceptedError, match=rf"^one\.dcm: refused: {attribute} is '{value}', the models are for "
        ):
            shipped.check(header(**{field: value}))
        (note,) = shipped.check(header(**{field: value}), labelled=True)
        assert note == f"taken though {attribute} is '{value}': its data set has labels of it"


def test_absent_attributes_pass_with_a_note(shipped):
    (note,) = shipped.check(header(body_part=None, view="Unknown"))
    assert note == "taken without BodyPartExamined, ViewPosition: its header does not say what it shows"
    assert shipped.check(header(body_part=None), labelled=True) == ()
    assert shipped.check(header(view="\xff\xfe\x80\xc3", body_part="???")) == (note,)


def test_a_value_becomes_one_short_line(shipped):
    with pytest.raises(NotAcceptedError) as caught:
        shipped.check(header(body_part="LEG\n" * 100))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_an_attribute_without_values_is_not_looked_at():
    assert Accepts(modality=("CT",)).check(header(modality="CT", body_part=None, view="LL")) == ()
    assert Accepts().check(header(modality="CT", body_part="LEG")) == ()


@pytest.mark.parametrize("value", ["None", "{}", "dict()", "dict(_delete_=True)"])
def test_nothing_takes_everything(tmp_path, value):
    path = tmp_path / "ensemble.py"
    path.write_text(f"_base_ = '{SHIPPED}'\naccepts = {value}\n")
    assert load_ensemble(path).accepts == Accepts()
    (tmp_path / "next.py").write_text(f"_base_ = '{path}'\nbatch_size = 2\n")
    assert load_ensemble(tmp_path / "next.py").accepts == Accepts()
    assert load_ensemble(SHIPPED, ["accepts=None"]).accepts == Accepts()


@pytest.mark.parametrize("value", ["None", "{}", "dict(_delete_=True)"])
def test_an_option_comes_on_top_of_nothing(tmp_path, value):
    path = tmp_path / "ensemble.py"
    path.write_text(f"_base_ = '{SHIPPED}'\naccepts = {value}\n")
    assert load_ensemble(path, ["accepts.modality=['CT']"]).accepts == Accepts(modality=("CT",))


def test_one_attribute_can_be_changed(shipped):
    changed = load_ensemble(SHIPPED, ["accepts.modality=['CT']"]).accepts
    assert changed == Accepts(("CT",), shipped.body_part, shipped.view)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("dict(modalty=('CR',))", "unknown key 'modalty' in accepts: did you mean 'modality'?"),
        ("dict(modality='CR')", "accepts: modality must be a tuple of texts, not 'CR'"),
        ("dict(view=(1,))", r"accepts: view must be a tuple of texts, not \(1,\)"),
        ("'chest'", "accepts must be a dict or None, not 'chest'"),
    ],
)
def test_a_rule_that_cannot_be_meant(tmp_path, value, message):
    path = tmp_path / "ensemble.py"
    path.write_text(f"_base_ = '{SHIPPED}'\naccepts = {value}\n")
    with pytest.raises(ConfigError, match=rf"^{path}: {message}"):
        load_ensemble(path)
