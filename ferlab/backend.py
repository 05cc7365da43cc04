"""Keras with the backend it runs on: `from ferlab.backend import keras`.

TensorFlow talks on stderr while it is imported, whatever its log level is set to (seen with
2.21). That is held back, and shown after all if the import fails.
"""

import contextlib
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ferlab import __version__
from ferlab.errors import InputError


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


try:
    with _stderr_held_back():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # Among others, that many models in one process mean much tracing.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        import keras
except FileNotFoundError as failure:  # what tempfile raises where every disk is full
    raise InputError(f"keras cannot be imported: {failure.strerror}") from failure
except (ImportError, ValueError) as failure:
    raise InputError(
        "KERAS_BACKEND must be tensorflow, jax or torch, and that one be installed. "
        f"Received: {os.environ.get('KERAS_BACKEND', 'tensorflow')} ({failure})"
    ) from failure


def describe_device() -> str:
    """'CPU (2 cores), tensorflow 2.21.0', or the names of the GPUs that will be used."""
    name = keras.backend.backend()
    cores = _cores()
    what = ", ".join(_gpus()) or f"CPU ({cores} core{'s' if cores > 1 else ''})"
    return f"{what}, {name} {_version(name)}"


def versions() -> dict[str, str]:
    """What a result may depend on, by name."""
    name = keras.backend.backend()
    return {
        "ferlab": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "keras": keras.__version__,
        "backend": name,
        name: _version(name),
        "device": describe_device(),
        "bfloat16": "fast" if has_bfloat16() else "not fast",
    }


def jit_compile() -> bool:
    """Whether to compile a training step whole, without which JAX crawls."""
    return keras.backend.backend() == "jax"


def has_bfloat16() -> bool:
    """Whether what computes here does so faster in bfloat16 than in float32.

    Known of graphics cards, and with TensorFlow of processors whose flags Linux tells.
    """
    if _gpus() or keras.backend.backend() != "tensorflow":
        return bool(_gpus())
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _gpus() -> list[str]:
    if keras.backend.backend() == "torch":  # for which Keras lists no devices
        import torch

        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return "of unknown version"
