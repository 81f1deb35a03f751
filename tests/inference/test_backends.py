"""The exported networks in ONNX Runtime and OpenVINO, against PyTorch, on random weights."""

from dataclasses import replace

import numpy as np
import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import Backend, Member, load_ensemble
from covidmm.errors import CheckpointError, ConfigError
from covidmm.inference import Predictor, backends
from covidmm.inference.detector import Detector, fingerprint

pytest.importorskip("onnx", reason="the extra 'export' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")


@pytest.fixture(scope="module", params=["yolo", "frcnn"])
def exported(request, random_ensemble, sure_yolo, tmp_path_factory):
    """A member and the file that was exported from it."""
    from covidmm.inference.export import to_onnx

    member = sure_yolo if request.param == "yolo" else random_ensemble.members["frcnn"]
    path = tmp_path_factory.mktemp("exported") / f"{request.param}.onnx"
    path.write_bytes(to_onnx(member.config, member.checkpoint)[0])
    return member, path


@pytest.fixture(scope="module")
def radiographs(random_ensemble):
    return [case.read().shrunk(128) for case in read_image_folder(random_ensemble.prepared).images][:5]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_boxes_are_those_of_pytorch(exported, radiographs, engine):
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    member, path = exported
    wanted = Detector(member, "torch", device="cpu")(radiographs)
    there = Detector(replace(member, backend=Backend(engine, str(path))), "there")(radiographs)
    assert sum(len(one) for one in wanted) > 20
    for one, other in zip(wanted, there, strict=True):
        # equal scores may change places
        assert np.sort(other.scores) == pytest.approx(np.sort(one.scores), abs=1e-4)
        for box, score in zip(one.boxes, one.scores, strict=True):
            distance = np.abs(other.boxes - box).max(1) + np.abs(other.scores - score)
            assert distance.min() < 0.05


def configured(random_ensemble, folder, name, **member):
    """The ensemble with other values for a member."""
    path = folder / "ensemble.py"
    path.write_text(f'_base_ = "{random_ensemble.config}"\nmembers = { ({name: member})!r}\n')
    return path


def test_a_predictor_takes_its_backend_from_the_config(exported, random_ensemble, tmp_path):
    member, path = exported
    name = path.stem
    plain, there = (
        Predictor.from_config(
            configured(random_ensemble, tmp_path, name, checkpoint=member.checkpoint, backend=backend), device="cpu"
        )
        for backend in ({"type": "torch"}, {"type": "onnxruntime", "file": str(path)})
    )
    assert isinstance(there.detectors[name].model, backends.ExportedDetector)
    source = sorted((random_ensemble.raw / "train").rglob("*.dcm"))[4]
    (one,), (other,) = plain(source), there(source)
    assert len(one.images[0].fused) > 5
    assert other.images[0].fused.scores == pytest.approx(one.images[0].fused.scores, abs=1e-3)


def test_predictions_are_stale_when_the_backend_changes(exported):
    member, path = exported
    there = replace(member, backend=Backend("onnxruntime", str(path)))
    assert fingerprint(there)["backend"] == "onnxruntime"
    stamps = [fingerprint(one) for one in (member, there, replace(member, backend=Backend(precision="bfloat16")))]
    assert stamps[0] != stamps[1] != stamps[2] != stamps[0]
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such file"):
        fingerprint(replace(member, backend=Backend("onnxruntime", str(path.with_name("none.onnx")))))


def test_a_file_of_another_checkpoint_is_refused(exported, random_ensemble, tmp_path):
    import torch

    member, path = exported
    state = torch.load(member.checkpoint, weights_only=True)
    torch.save({**state, "epoch": 1}, tmp_path / "other.pth")
    other = replace(member, checkpoint=str(tmp_path / "other.pth"), backend=Backend("onnxruntime", str(path)))
    with pytest.raises(CheckpointError, match="exported from another checkpoint than member 'x'"):
        Detector(other, "x")


def test_openvino_in_bfloat16_is_for_single_stage_detectors(exported):
    member, path = exported
    there = replace(member, backend=Backend("openvino", str(path), "bfloat16"))
    if path.stem == "yolo":
        pytest.importorskip("openvino", reason="openvino is not installed")
        Detector(there, "x")
    else:
        with pytest.raises(ConfigError, match="'x': openvino in bfloat16 moves the boxes of a two-stage detector"):
            Detector(there, "x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"", "was not exported by covidmm"),
        (lambda raw: raw[: len(raw) // 2], "damaged or no ONNX file"),
        (lambda raw: b"nothing of the kind", "damaged or no ONNX file"),
    ],
    ids=["empty", "truncated", "text"],
)
def test_a_damaged_file_is_one_line(exported, tmp_path, damage, message):
    member, path = exported
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"bad\.onnx: {message}") as caught:
        Detector(replace(member, backend=Backend("onnxruntime", str(bad))), "x")
    assert "\n" not in str(caught.value)


def test_an_image_larger_than_the_graph_is_refused(exported, radiographs):
    member, path = exported
    detector = Detector(replace(member, backend=Backend("onnxruntime", str(path))), "x")
    detector.model.size = (64, 64)
    with pytest.raises(ConfigError, match=r"larger than the exported 64x64"):
        detector(radiographs[:1])


def test_augmentation_needs_torch(random_ensemble, exported):
    there = Backend("onnxruntime", str(exported[1]))
    member = replace(random_ensemble.members["yolo"], test_time_augmentation=True, backend=there)
    with pytest.raises(ConfigError, match="augmentation needs the backend 'torch'"):
        Detector(member, "x")


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ({"type": "onxruntime", "file": "a"}, "unknown backend 'onxruntime': did you mean 'onnxruntime'"),
        ({"type": "openvino"}, "takes a file of tools/export.py"),
        ({"file": "a"}, "'torch' takes no file"),
        ({"type": "onnxruntime", "file": "a", "precision": "float16"}, "no precision 'float16', it has float32"),
        ({"precison": "float32"}, "unknown key 'precison' in backend: did you mean 'precision'"),
        ("onnxruntime", "backend must be a dict"),
    ],
)
def test_a_wrong_backend_is_one_line(random_ensemble, tmp_path, backend, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_ensemble(configured(random_ensemble, tmp_path, "yolo", backend=backend))
    assert "member 'yolo'" in str(caught.value)


def test_precision_can_be_chosen_on_the_command_line(random_ensemble):
    config = load_ensemble(random_ensemble.config, ["members.yolo.backend.precision=bfloat16"])
    assert config.members["yolo"].backend == Backend(precision="bfloat16")


def test_reduced_precision_moves_scores_a_little(random_ensemble, radiographs):
    member = random_ensemble.members["yolo"]
    (full, *_), (half, *_) = (
        Detector(replace(member, backend=Backend(precision=one)), one, device="cpu")(radiographs)
        for one in ("float32", "bfloat16")
    )
    assert not np.array_equal(full.scores[:5], half.scores[:5])
    assert half.scores[:5] == pytest.approx(full.scores[:5], abs=0.05)


def test_float16_needs_a_gpu(random_ensemble):
    member = replace(random_ensemble.members["yolo"], backend=Backend(precision="float16"))
    with pytest.raises(ConfigError, match="'float16' needs a GPU"):
        Detector(member, "x", device="cpu")


def test_a_missing_package_names_the_extra():
    with pytest.raises(ConfigError, match=r"nowhere is not installed: pip install 'covidmm\[export\]'"):
        backends.require("nowhere")


def test_member_defaults_to_torch():
    assert Member("a", "b").backend == Backend("torch", None, "float32")


@pytest.mark.parametrize("text", ["{", "[" * 200_000, "[1]", '{"kind": 5}'])
def test_odd_metadata_are_one_line(exported, tmp_path, text):
    import onnx

    member, path = exported
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {backends.METADATA_KEY: text})
    onnx.save(model, str(tmp_path / "odd.onnx"))
    with pytest.raises(CheckpointError, match=r"odd\.onnx: covidmm's metadata of the model") as caught:
        Detector(replace(member, backend=Backend("onnxruntime", str(tmp_path / "odd.onnx"))), "odd")
    assert "\n" not in str(caught.value)
