"""Keras and its backend: `from ferlab.backend import keras`.

TensorFlow writes to stderr while it is imported, whatever its log level (observed with 2.21). That
output is hidden, and shown only if the import fails.
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

THREADS_VARIABLES = {  # environment variables that set the number of threads
    "tensorflow": ("TF_NUM_INTRAOP_THREADS",),
    "jax": ("PJRT_NPROC", "NPROC"),
}


@contextlib.contextmanager
def _stderr_unless_failing() -> Iterator[None]:
    """Hide output to stderr, including that of C++ code; show it if an exception is raised."""
    try:
        original = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        except Exception:
            output.seek(0)
            with contextlib.suppress(OSError):
                os.write(original, output.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


try:
    with _stderr_unless_failing():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # Such as the warning that many models in one process cause much retracing.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        import keras
except FileNotFoundError as failure:  # raised by tempfile when every disk is full
    raise InputError(f"keras cannot be imported: {failure.strerror}") from failure
except (ImportError, ValueError) as failure:
    raise InputError(
        "KERAS_BACKEND must be tensorflow, jax or torch, and installed. "
        f"Received: {os.environ.get('KERAS_BACKEND', 'tensorflow')} ({failure})"
    ) from failure


def describe_device() -> str:
    """The device and the backend: 'CPU (2 cores), tensorflow 2.21.0', or the names of the GPUs."""
    name = keras.backend.backend()
    cores = _cores()
    device = ", ".join(_gpus()) or f"CPU ({cores} core{'s' if cores > 1 else ''})"
    return f"{device}, {name} {_version(name)}"


def versions() -> dict[str, str]:
    """Versions and hardware that a result may depend on, by name."""
    name = keras.backend.backend()
    return {
        "ferlab": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "keras": keras.__version__,
        "backend": name,
        name: _version(name),
        "device": describe_device(),
        "threads": str(threads()),
        "bfloat16": "fast" if has_bfloat16() else "not fast",
    }


def threads() -> int:
    """The number of threads that share an operation on the CPU.

    They add up in another order than one thread does, so results depend on it in the last digits.
    """
    name = keras.backend.backend()
    if name == "torch":
        import torch

        return torch.get_num_threads()
    values = (os.environ.get(variable, "") for variable in THREADS_VARIABLES[name])
    return next((int(value) for value in values if value.isdecimal()), 0) or _cores()


def jit_compile() -> bool:
    """Whether to compile the whole training step; JAX is very slow without it."""
    return keras.backend.backend() == "jax"


def has_bfloat16() -> bool:
    """Whether bfloat16 is faster than float32 on this device.

    True on GPUs and, with TensorFlow on Linux, on CPUs whose flags include bfloat16.
    """
    if _gpus() or keras.backend.backend() != "tensorflow":
        return bool(_gpus())
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _gpus() -> list[str]:
    if keras.backend.backend() == "torch":  # Keras lists no devices for it
        import torch

        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # on Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return "of unknown version"
