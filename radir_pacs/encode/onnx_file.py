"""An ONNX file from elsewhere, run on the CPU, one image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from radir_pacs.errors import BundleRefused

from .folder import StoredFile
from .onnx_check import MISSING, check_onnx

_FLOATS, _INTEGERS = "tensor(float)", "tensor(int64)"


class OnnxFile:
    """Takes image float32 [1, 1, *shape] and, as an optional second input, view int64 [1]; answers one float32 tensor.

    It is opened when it is first run: a file that is only carried along is neither read nor parsed. Copies of a network
    share it: it never changes.
    """

    def __init__(self, source: bytes | StoredFile, shape: Sequence[int]) -> None:
        self._source, self._shape = source, tuple(shape)
        self._session: Any = None
        self._threads = 0
        self._inputs: tuple[str, ...] = ()

    @property
    def content(self) -> bytes:
        """The file, read anew where it lies in a bundle's folder. Raises BundleRefused."""
        return self._source.read() if isinstance(self._source, StoredFile) else self._source

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxFile:
        return self

    def open(self) -> None:
        """Make it ready to run, if it is not. Raises BundleRefused for a file that is not served, ValueError for one
        that the runtime cannot open."""
        if self._session is not None:
            return
        content = self.content
        check_onnx(content)
        threads = self._threads or _threads_of_torch()
        session = _session(content, threads)
        self._inputs = _checked_inputs(session, self._shape)
        self._session, self._threads = session, threads

    def use_threads(self, threads: int) -> None:
        """Use this many threads; until then it uses as many as torch did when it was opened."""
        if self._session is not None and threads != self._threads:
            self._session = _session(self.content, threads)
        self._threads = threads

    def run(self, image: np.ndarray[Any, Any], view: int) -> np.ndarray[Any, Any]:
        """The answer to one image [1, 1, *shape]. Raises ValueError when it fails, and as ``open`` does."""
        self.open()
        fed = (image.astype(np.float32, copy=False), np.array([view], np.int64))
        try:
            (out,) = self._session.run(None, dict(zip(self._inputs, fed, strict=False)))
        except Exception as error:  # the runtime's errors share no other base
            raise ValueError(f"the model fails on an image of {list(image.shape)}: {_first_line(error)}") from None
        return np.asarray(out)


def _checked_inputs(session: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The names of what it takes. Raises BundleRefused for another form than is served."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = [value.type for value in inputs]
    if kinds not in ([_FLOATS], [_FLOATS, _INTEGERS]):
        raise BundleRefused(
            f"the model takes {', '.join(kinds) or 'nothing'}: export it with the input image float32 "
            f"{[1, 1, *shape]} and, if it wants one, view int64 [1]"
        )
    if len(outputs) != 1 or outputs[0].type != _FLOATS:
        raise BundleRefused(f"the model has {len(outputs)} outputs: export it with one, of float32")
    taken = inputs[0].shape
    if len(taken) != 2 + len(shape) or any(
        isinstance(n, int) and n != wanted for n, wanted in zip(taken, (1, 1, *shape), strict=True)
    ):
        raise BundleRefused(
            f"the model takes images of {taken}, the preprocessing makes {[1, 1, *shape]}: choose the "
            "--preprocessing it was trained with, or export it for this shape"
        )
    return tuple(value.name for value in inputs)


def _threads_of_torch() -> int:
    import torch  # takes a second to load: who names the threads need not wait for it

    return torch.get_num_threads()


def _session(content: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise BundleRefused(MISSING) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # we report errors ourselves, once
    options.use_deterministic_compute = True
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no other base
        raise ValueError(f"the runtime cannot open the model: {_first_line(error)}") from None
    session._model_bytes = None  # the whole file, which it keeps to open it anew with other providers: we have one
    return session


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return "".join(c for c in line if c.isprintable())[:200]
