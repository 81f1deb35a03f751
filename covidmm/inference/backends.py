"""Run exported detectors with ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from covidmm.ensembles.ensemble_config import PRECISIONS
from covidmm.errors import CheckpointError, ConfigError
from covidmm.utils.fileio import json_value

#: The key of the ONNX metadata that holds all that covidmm writes there, as JSON.
METADATA_KEY = "covidmm"
#: Keys that are needed to load a model.
_NEEDED = ("kind", "input_size", "fixed_size", "config_sha256", "checkpoint_sha256")
#: (B, 3, H, W) float32 in, the graph's outputs out.
Session = Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]


def read_metadata(content: str | Path | bytes) -> dict[str, Any]:
    """The metadata that ``tools/export.py`` wrote into an ONNX file.

    Raises:
        CheckpointError: the file is missing, damaged, or was not exported by covidmm.
        ConfigError: onnx is not installed.
    """
    require("onnx")
    import onnx  # extra 'export', as the engines below

    where = "the exported model" if isinstance(content, bytes) else content
    try:
        raw = content if isinstance(content, bytes) else Path(content).read_bytes()
        properties = {one.key: one.value for one in onnx.load_model_from_string(raw).metadata_props}
    except FileNotFoundError as error:
        raise CheckpointError(f"{where}: no such file; tools/export.py makes it") from error
    except Exception as error:  # protobuf's own errors share no base class
        raise CheckpointError(f"{where}: damaged or no ONNX file") from error
    if METADATA_KEY not in properties:
        raise CheckpointError(f"{where}: was not exported by covidmm's tools/export.py")
    try:
        found = json_value(properties[METADATA_KEY])
    except ValueError as error:
        raise CheckpointError(f"{where}: covidmm's metadata of the model are damaged ({error})") from error
    if not isinstance(found, dict) or not all(key in found for key in _NEEDED):
        raise CheckpointError(f"{where}: covidmm's metadata of the model lack keys; export the model again")
    return found


def exact_precisions(engine: str, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The precisions of an engine that move the AP of an exported model by at most 0.005.

    OpenVINO computes all of a graph in bfloat16, whose 8 bits of mantissa move a proposal at 192 pixels by half of one.
    """
    if engine == "openvino" and metadata["kind"] == "two-stage":
        return ("float32",)
    return PRECISIONS[engine]


def open_session(engine: str, content: str | Path | bytes, precision: str = "float32") -> Session:
    """Load an exported model, on as many threads as PyTorch uses.

    Args:
        engine: ``onnxruntime`` or ``openvino``, on the CPU.
        content: the ONNX file, or its bytes.
        precision: ``float32``, or ``bfloat16`` with OpenVINO.

    Raises:
        CheckpointError: the engine cannot read the file.
        ConfigError: the engine is not installed.
    """
    require(engine)
    source = content if isinstance(content, bytes) else Path(content).read_bytes()
    try:
        return {"onnxruntime": _onnxruntime, "openvino": _openvino}[engine](source, precision)
    except Exception as error:  # the engines raise bare exceptions of their own
        where = "the exported model" if isinstance(content, bytes) else content
        raise CheckpointError(f"{where}: {engine} cannot load it: {str(error).strip().splitlines()[0]}") from error


def require(package: str) -> None:
    """Refuse, in one line, what needs a package that is not installed."""
    if find_spec(package) is None:
        raise ConfigError(f"{package} is not installed: pip install 'covidmm[export]'")


def _onnxruntime(source: bytes, precision: str) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})


def _openvino(source: bytes, precision: str) -> Session:
    import openvino

    core = openvino.Core()
    # by default OpenVINO computes in bfloat16 wherever the processor can
    hints = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = core.compile_model(core.read_model(source, b""), "CPU", hints)
    return lambda images: [compiled(images)[index].copy() for index in range(len(compiled.outputs))]


class ExportedDetector(nn.Module):
    """A detector whose network another engine runs; preprocessing and the heads' post-processing are MMDetection's own.

    Args:
        model: the detector as its config builds it; its weights are not used.
        metadata: of the exported file, see :func:`read_metadata`.
        session: that file, loaded.
    """

    def __init__(self, model: nn.Module, metadata: Mapping[str, Any], session: Session) -> None:
        super().__init__()
        self.model = model
        self.session = session
        self.kind = metadata["kind"]
        self.size = tuple(metadata["input_size"])
        self.fixed_size = metadata["fixed_size"]

    def test_step(self, data: Mapping[str, Any]) -> list[Any]:
        """As the detector's own: samples with ``pred_instances`` in pixels of the image in the sample."""
        batch = self.model.data_preprocessor(dict(data), False)
        images = self._padded(batch["inputs"])
        metas = [sample.metainfo for sample in batch["data_samples"]]
        post = self._two_stage if self.kind == "two-stage" else self._single_stage
        return self.model.add_pred_to_datasample(batch["data_samples"], post(images, metas))

    def _padded(self, images: Tensor) -> NDArray[np.float32]:
        height, width = self.size
        missing = height - images.shape[2], width - images.shape[3]
        if min(missing) < 0:
            shape = "x".join(map(str, images.shape[2:]))
            raise ConfigError(f"an input of {shape} pixels is larger than the exported {height}x{width}")
        if not self.fixed_size:
            return images.numpy()
        value = self.model.data_preprocessor.pad_value
        return nn.functional.pad(images, (0, missing[1], 0, missing[0]), value=value).numpy()

    def _single_stage(self, images: NDArray[np.float32], metas: list[dict]) -> list[Any]:
        head = self.model.bbox_head
        levels = [torch.from_numpy(one) for one in self.session(images)]
        count = len(head.prior_generator.strides)
        kinds = [levels[first : first + count] for first in range(0, len(levels), count)]
        return head.predict_by_feat(*kinds, batch_img_metas=metas, rescale=True)

    def _two_stage(self, images: NDArray[np.float32], metas: list[dict]) -> list[Any]:
        roi_head = self.model.roi_head
        found = [[torch.from_numpy(one) for one in self.session(image[None])] for image in images]
        return roi_head.bbox_head.predict_by_feat(
            *zip(*found, strict=True), batch_img_metas=metas, rcnn_test_cfg=roi_head.test_cfg, rescale=True
        )
