"""NumPy's values in checkpoints: those that NumPy wrote, and forged states."""

import io
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from covidmm.errors import CheckpointError
from covidmm.models.checkpoints import read_checkpoint


class Call:
    """Pickled as a call with a state."""

    def __init__(self, function, arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def read(tmp_path, value):
    torch.save({"state_dict": {}, "value": value}, tmp_path / "a.pth")
    return read_checkpoint(tmp_path / "a.pth")["value"]


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", ">f8", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_wrote_is_read(tmp_path, kind, order):
    wanted = np.asarray(np.arange(6).reshape(2, 3), kind, order=order)
    found = read(tmp_path, wanted)
    assert found.dtype == wanted.dtype.newbyteorder("=")  # as NumPy's own reader leaves it
    assert (found == wanted).all()
    one = read(tmp_path, wanted[1, 2])
    assert type(one) is type(wanted[1, 2])
    assert one == wanted[1, 2]


def test_a_log_goes_on(tmp_path):
    log = read(tmp_path, HistoryBuffer([1.0, 3.0], [1, 1]))
    log.update(5.0)
    assert log.mean() == 3.0
    assert log.current() == 5.0


FLAGS = (3, "<", None, None, None, -1, -1, 63)
reconstruct = pickle.loads(pickle.dumps(np.zeros(1))).__reduce__()[0]
one_number = np.float64(1).__reduce__()[0]


@pytest.mark.parametrize(
    "value",
    [
        Call(np.dtype, ("O", False, True)),
        Call(np.dtype, ("V8", False, True)),
        Call(np.dtype, ([("a", "O")],)),
        Call(np.dtype, ("f8", False, True), (3, "x", None, None, None, -1, -1, 0)),
        Call(one_number, (Call(np.dtype, ("f8", False, True), FLAGS), b"1234")),
        Call(one_number, ("f8", b"12345678")),
        Call(reconstruct, (np.ndarray, (0,), b"b"), (1, (9,), np.dtype("f8"), False, b"12345678")),
        Call(reconstruct, (np.ndarray, (0,), b"b"), (1, (-1,), np.dtype("f8"), False, b"")),
        Call(reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), np.dtype("O"), False, [1])),
        Call(reconstruct, (np.ndarray, (0,), b"b"), (1, (1,))),
    ],
)
def test_a_state_that_no_numbers_have_is_refused(tmp_path, value):
    with pytest.raises(CheckpointError, match=r"a\.pth: (refused|damaged)"):
        read(tmp_path, value)


def test_flags_of_pointers_do_not_reach_numpy(tmp_path):
    found = read(tmp_path, Call(one_number, (Call(np.dtype, ("f8", False, True), FLAGS), b"12345678")))
    assert found == np.frombuffer(b"12345678")[0]
    assert np.dtype("f8").flags == 0


def test_an_array_is_made_of_its_state_alone(tmp_path):
    assert read(tmp_path, Call(np.ndarray, ((10**9,), "f8"))).shape == (0,)


def test_numpy_itself_would_read_the_same(tmp_path):
    wanted = np.random.default_rng(0).normal(size=(3, 4))
    assert (read(tmp_path, wanted) == np.load(io.BytesIO(_npy(wanted)))).all()


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
