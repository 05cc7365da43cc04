"""Run a trained network without Keras, faster on a CPU.

OpenVINO (https://docs.openvino.ai) runs a model that Keras exports. Its telemetry is disabled here.
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
    "openvino": "OpenVINO, the same probabilities, faster",
    "openvino-bfloat16": "faster still on a CPU with bfloat16; probabilities to about two digits",
}
# Largest difference from Keras's outputs, relative to their largest magnitude if that is above 1.
TOLERANCES = {"openvino": 1e-3, "openvino-bfloat16": 0.1}
COMPARED = 8  # images to compare the outputs of Keras and the engine on

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
    """A model of raw images, run by an engine other than Keras.

    Its outputs for a few of `images`, uint8 (n, *image_shape), are compared with Keras's. Raises
    InputError if the engine or bfloat16 is not available, if it cannot run the model, and if the
    outputs differ.
    """
    openvino = _openvino(engine)
    core = openvino.Core()
    precision = "bf16" if engine.endswith("bfloat16") else "f32"
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise InputError(f"this processor has no bfloat16, which engine {engine} requires")
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    few = images[:: -(-len(images) // COMPARED)]
    try:
        network = core.compile_model(_exported(core, model, image_shape), "CPU", hints)
        outputs = _outputs(network, few, len(few))
    except Exception as error:  # Keras and OpenVINO raise almost anything here
        raise InputError(
            f"engine {engine} cannot run this model ({type(error).__name__}); use engine keras"
        ) from error
    _require_same(engine, outputs, model, few)
    return lambda images, batch_size: _outputs(network, images, batch_size)


def _openvino(engine: str):
    """The package, with its telemetry disabled."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise InputError(f"engine {engine} requires a package: pip install openvino") from error
    return openvino


def _exported(core, model: "keras.Model", image_shape: tuple[int, int, int]):
    """The model in OpenVINO's format, for images of this shape and batches of any size.

    It is called with training=False, which Keras's export does not set for random layers.
    """
    from ferlab.backend import keras

    images = keras.Input(image_shape, name="images")
    model = keras.Model(images, model(images, training=False), name=f"still_{model.name}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        model.export(str(path), format="openvino", verbose=False)
        return core.read_model(path)


def _outputs(network, images: np.ndarray, batch_size: int) -> np.ndarray:
    """float32 (n, outputs), batch by batch: OpenVINO's asynchronous queue has hung (2026.4)."""
    request = network.create_infer_request()
    outputs = []
    for start in range(0, len(images), batch_size):
        result = request.infer([images[start : start + batch_size].astype("float32")])
        outputs.append(np.array(result[0], dtype="float32"))
    return np.concatenate(outputs)


def _require_same(
    engine: str, outputs: np.ndarray, model: "keras.Model", images: np.ndarray
) -> None:
    from ferlab.backend import keras

    expected = keras.ops.convert_to_numpy(model(images.astype("float32"), training=False))
    difference = np.abs(outputs - expected).max() / max(1, np.abs(expected).max())
    if difference > TOLERANCES[engine]:
        raise InputError(
            f"engine {engine} differs from Keras by {difference:.2g}, above the tolerance of "
            f"{TOLERANCES[engine]}; use engine keras"
        )
