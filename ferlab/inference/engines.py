"""What runs a trained network, when it is not Keras: the same network, faster on a processor.

OpenVINO (https://docs.openvino.ai) takes what Keras exports. Importing it reports the use to its
makers, unless its part that does so is missing, which it is here.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferlab.errors import InputError

if TYPE_CHECKING:
    import keras

ENGINES = {
    "keras": "the backend of Keras",
    "openvino": "OpenVINO, the same probabilities sooner",
    "openvino-bfloat16": "sooner still where the processor has bfloat16, probabilities to about "
    "two digits",
}
# How far from Keras's an output may be, where the largest is 1 or below; else in shares of it.
TOLERANCES = {"openvino": 1e-3, "openvino-bfloat16": 0.1}
COMPARED = 8  # images that every model is asked for twice, by Keras and by the engine

# uint8 (n, height, width, channels), batch size -> float32 (n, outputs)
Outputs = Callable[[np.ndarray, int], np.ndarray]


def require_engine(engine: str) -> None:
    """Raise InputError for an engine that is unknown or not installed."""
    if engine not in ENGINES:
        raise InputError(f"the engine must be {', '.join(ENGINES)}. Received: {engine!r}")
    if engine != "keras":
        _openvino(engine)


def network_on(
    engine: str, model: "keras.Model", image_shape: tuple[int, int, int], images: np.ndarray
) -> Outputs:
    """The model of raw grey levels, run by an engine other than Keras.

    On a few of `images`, uint8 (n, *image_shape), its outputs are compared with Keras's. Raises
    InputError where the engine or its bfloat16 is not to be had, cannot take the model, or answers
    otherwise than Keras.
    """
    openvino = _openvino(engine)
    core = openvino.Core()
    precision = "bf16" if engine.endswith("bfloat16") else "f32"
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise InputError(f"this processor has no bfloat16, which engine {engine} needs")
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    few = images[:: -(-len(images) // COMPARED)]
    try:
        network = core.compile_model(_exported(core, model, image_shape), "CPU", hints)
        found = _outputs(network, few, len(few))
    except Exception as error:  # Keras and OpenVINO raise whatever a foreign model makes them
        raise InputError(
            f"engine {engine} cannot take this model ({type(error).__name__}); engine keras can"
        ) from error
    _require_same(engine, found, model, few)
    return lambda images, batch_size: _outputs(network, images, batch_size)


def _openvino(engine: str):
    """The package, without the part that reports its use."""
    sys.modules.setdefault("openvino_telemetry", None)
    try:
        import openvino
    except ImportError as error:
        raise InputError(
            f"engine {engine} needs a package that is not here: pip install openvino"
        ) from error
    return openvino


def _exported(core, model: "keras.Model", image_shape: tuple[int, int, int]):
    """The model as OpenVINO's, on images of that shape and batches of any size.

    Random layers are told that this is no training, which Keras's export leaves open.
    """
    from ferlab.backend import keras

    images = keras.Input(image_shape, name="images")
    model = keras.Model(images, model(images, training=False), name=f"still_{model.name}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        model.export(str(path), format="openvino", verbose=False)
        return core.read_model(path)


def _outputs(network, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Batch after batch. OpenVINO's queue of several was seen to wait for ever (2026.4)."""
    request = network.create_infer_request()
    found = []
    for start in range(0, len(images), batch_size):
        answer = request.infer([images[start : start + batch_size].astype("float32")])
        found.append(np.array(answer[0], dtype="float32"))
    return np.concatenate(found)


def _require_same(engine: str, found: np.ndarray, model: "keras.Model", images: np.ndarray) -> None:
    from ferlab.backend import keras

    expected = keras.ops.convert_to_numpy(model(images.astype("float32"), training=False))
    difference = np.abs(found - expected).max() / max(1, np.abs(expected).max())
    if difference > TOLERANCES[engine]:
        raise InputError(
            f"engine {engine} answers otherwise than Keras, by {difference:.2g} where "
            f"{TOLERANCES[engine]} is allowed; use engine keras"
        )
