"""Foreground by a salient-object network in ONNX Runtime, on the CPU."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from asic_features.extras import ExtraError
from asic_features.images import UInt8Image
from asic_features.mask_networks import MASK_NETWORKS
from asic_features.weights import WeightsError
from asic_flow.cores import allowed_threads


class MaskNetwork:
    """A salient-object network that says of every pixel how likely it shows the object.

    Its answer is a probability and is taken as it is: stretched to fill a range, a photo without object would get a
    mask of noise.
    """

    def __init__(self, name: str, file: Path) -> None:
        """Load a network.

        Args:
            name: A key of ``MASK_NETWORKS``.
            file: Its ONNX file; a file that fixes another side than the table has is shown that many pixels.

        Raises:
            ExtraError: ONNX Runtime is not installed.
            WeightsError: The file is no such network.
        """
        try:
            import onnxruntime
        except ImportError:
            raise ExtraError(
                f"masks {name!r} need ONNX Runtime: pip install 'asic-features[onnx]', or use masks 'cosegment'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = allowed_threads()
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has an exception type for every stage of loading
            raise WeightsError(f"mask network {file} cannot be read: {str(error).splitlines()[0]}") from error
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            found = ", ".join(f"{one.type} {one.shape}" for one in inputs)
            raise WeightsError(f"mask network {file}: expected one input tensor(float) [1, 3, S, S], got {found}")
        fixed = inputs[0].shape[3]
        self._network = MASK_NETWORKS[name]
        self._side = fixed if isinstance(fixed, int) else self._network.side
        self._session, self._input, self._file = session, inputs[0].name, file
        # Photos are read in several threads; two answers at once would take the memory of two.
        self._answering = threading.Lock()

    def __call__(self, pixels: UInt8Image) -> UInt8Image:
        """Mask of a picture.

        Args:
            pixels: (H, W, 3) uint8.

        Returns:
            (H, W) uint8, the probability of foreground times 255.

        Raises:
            WeightsError: The network cannot be run, or its output is no mask.
        """
        height, width = pixels.shape[:2]
        shown = Image.fromarray(pixels).resize((self._side, self._side), Image.Resampling.LANCZOS)
        mean, std = (np.array(given, dtype=np.float32) for given in (self._network.mean, self._network.std))
        values = (np.asarray(shown, dtype=np.float32) / 255 - mean) / std
        with self._answering:
            answer = self._run(np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32))
        if self._network.gives_logits:
            answer = 1 / (1 + np.exp(-answer.clip(-80, 80)))
        answer = np.nan_to_num(answer).clip(0, 1)
        whole = Image.fromarray(answer).resize((width, height), Image.Resampling.BILINEAR)
        return (np.asarray(whole) * 255).round().clip(0, 255).astype(np.uint8)

    def _run(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        try:
            answer = self._session.run(None, {self._input: values})[0]
        except Exception as error:  # as above
            raise WeightsError(f"mask network {self._file} cannot be run: {str(error).splitlines()[0]}") from error
        if answer.ndim < 2 or min(answer.shape) < 1:
            raise WeightsError(f"mask network {self._file}: expected a mask [1, 1, S, S], got shape {answer.shape}")
        mask: npt.NDArray[np.float32] = answer.reshape(-1, *answer.shape[-2:])[0].astype(np.float32)
        return mask
