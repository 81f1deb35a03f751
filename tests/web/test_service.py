import numpy as np
import pytest

from covidmm.errors import CovidmmError, NotAcceptedError, PluginError, RadiographError
from covidmm.findings import Detections
from covidmm.inference import Predictor
from covidmm.outputs.kaggle import Prediction, read_submission
from covidmm.utils.provenance import sha256, versions
from covidmm.web.service import Question, Service
from covidmm.web.uploads import Upload
from tests.corpus.valid import dataset, saved, smooth


def test_what_is_decoded_knows_nothing_of_anybody(service, files):
    found = service.decode([Upload("a", content) for content in files[:2]])
    for number, one in enumerate(found, 1):
        header = one.header
        assert (header.image, header.study, str(header.path)) == (f"image{number}", "study", f"image{number}")
        assert (header.patient, header.sex, header.series, header.manufacturer) == (None,) * 4
        assert (header.height, header.width) == (200, 160)
        assert max(one.pixels.shape) == 128  # the config's max_size


def test_a_radiograph_of_another_kind_is_refused_by_name(service):
    for attributes, cause in (
        ({"BodyPartExamined": "LEG"}, "BodyPartExamined is 'LEG'"),
        ({"Modality": "CT"}, "Modality is 'CT'"),
        ({"ViewPosition": "LL"}, "ViewPosition is 'LL'"),
    ):
        with pytest.raises(NotAcceptedError, match=f"^one: refused: {cause}, the models are for "):
            service.decode([Upload("one", saved(dataset("one", **attributes)))])


def test_notes_of_an_image_are_in_the_answer(service):
    frames = dataset("one", NumberOfFrames=2, PixelData=smooth().tobytes() * 2)
    radiographs = service.decode([Upload("one", saved(frames))])
    (image,) = service.predict(Question(), radiographs).images
    assert image.notes == [
        "first of 2 frames",
        "taken without BodyPartExamined: its header does not say what it shows",
    ]
    described = service.decode([Upload("one", saved(dataset("one", BodyPartExamined="CHEST")))])
    assert service.predict(Question(), described).images[0].notes == []


def test_a_bad_file_and_two_studies(service, files):
    with pytest.raises(RadiographError, match="b: is neither"):
        service.decode([Upload("a", files[0]), Upload("b", b"x")])
    with pytest.raises(RadiographError, match="of 2 studies"):
        service.decode([Upload("a", files[0]), Upload("b", files[2])])


def test_the_submission_is_what_the_folder_tool_would_write(service, files, tmp_path):
    radiographs = service.decode([Upload("a", files[0])])
    found = service.predict(Question(), radiographs)
    path = tmp_path / "submission.csv"
    path.write_text("\n".join(["id,PredictionString", *(f"{row.id},{row.prediction}" for row in found.submission)]))
    rows = read_submission(path)
    image, study = rows["image1_image"], rows["study_study"]
    assert {one.name: one.score for one in study} == pytest.approx(found.study.probabilities, abs=2e-6)
    assert sum(one.name == "opacity" for one in image) == len(found.images[0].fused)
    none = next(one for one in image if one.name == "none")
    product = 1.0
    for box in found.images[0].fused:
        product *= 1 - box.score
    assert none.score == pytest.approx((product + found.study.probabilities["negative"]) / 2, abs=1e-4)
    assert isinstance(none, Prediction)


def test_every_answer_says_what_it_comes_from(service, files, random_ensemble):
    config = service.predictor.config
    radiographs = service.decode([Upload("a", files[0])])
    found = service.predict(Question(), radiographs).provenance
    assert found == service.provenance(config)
    assert found.config_resolved_sha256 == config.sha256
    checkpoints = {name: sha256(member.checkpoint) for name, member in config.members.items()}
    assert {name: one["checkpoint_sha256"] for name, one in found.members.items()} == checkpoints
    assert found.study_checkpoints_sha256 == [sha256(config.study["checkpoint"])]
    assert found.versions == versions()
    assert str(random_ensemble.config.parent) not in found.model_dump_json()  # no path of the server
    alone = service.predict(Question(detector="yolo"), radiographs).provenance
    assert list(alone.members) == ["yolo"]
    assert alone.config_resolved_sha256 != found.config_resolved_sha256


def test_attention_comes_only_when_it_is_asked_for(service, files):
    radiographs = service.decode([Upload("a", files[0])])
    assert service.predict(Question(), radiographs).images[0].attention is None
    found = service.predict(Question(attention=True), radiographs).images[0].attention
    assert found.region == pytest.approx([0, 0, 1, 1], abs=0.02)  # the phantom classifier sees the whole


def test_a_config_that_cannot_be_served(random_ensemble, reader):
    options = ["study=None", "none.rule=negative"]
    with pytest.raises(CovidmmError, match="needs a study classifier"):
        Service(Predictor.from_config(random_ensemble.config, options, "cpu"), reader)


def test_without_a_study_classifier(random_ensemble, reader, files):
    predictor = Predictor.from_config(random_ensemble.config, ["study=None", "none.rule=no_box"], "cpu")
    service = Service(predictor, reader)
    found = service.predict(Question(attention=True), service.decode([Upload("a", files[0])]))
    assert found.study is None
    assert found.images[0].attention is None
    assert found.submission[0].prediction == "negative 1 0 0 1 1"


class Nonsense:
    """A strategy and a study classifier, neither of which can be used."""

    def fuse(self, members, weights, size):
        return Detections([[0, 0, size[1], size[0] + 9]], [0.5])

    def classify(self, study):
        return np.full(4, 0.5)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("strategy", "image 'image1': the ensemble strategy answered a box outside 160 x 200 pixels"),
        ("classifier", "study 'study': the study classifier answered .*, not 4 probabilities"),
    ],
)
def test_a_broken_plugin_is_refused(service, files, monkeypatch, part, message):
    monkeypatch.setattr(service._variants["ensemble", None], part, Nonsense())
    radiographs = service.decode([Upload("a", files[0])])
    with pytest.raises(PluginError, match=message) as caught:
        service.predict(Question(), radiographs)
    assert "\n" not in str(caught.value)
