"""Time contenders alternately, so that other load on the machine affects them equally."""

import contextlib
import csv
import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ferlab.errors import InputError

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results.csv"
PACKAGES = ("keras", "tensorflow", "torch", "numpy", "openvino")
COLUMNS = ("date", "bench", "ours", "peer", "ratio", "low", "high", "n", "machine", "versions")


def in_turn(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call the contenders alternately, `rounds` times each; each returns the seconds to compare."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(contender())
    return seconds


def printed_by(*command: object) -> str:
    """The output of a Python program. Raises InputError with its last line if it fails."""
    arguments = [sys.executable, *map(str, command)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env=environment
    )
    if process.returncode:
        *_, last = process.stderr.strip().splitlines() or ["no message"]
        name = command[0] if command[0] != "-c" else "a program"
        raise InputError(
            f"{name} failed with exit code {process.returncode}: {last.removeprefix('error: ')}"
        )
    return process.stdout


def report(seconds: dict[str, list[float]], unit_count: int = 1, unit: str = "s") -> None:
    """Print the median and the range of each; with a unit count, in units per second."""
    for name, values in seconds.items():
        if unit_count > 1:
            values = [unit_count / value for value in values]
        print(
            f"{name:24s} median {statistics.median(values):9.3f} {unit}   "
            f"from {min(values):.3f} to {max(values):.3f}, n={len(values)}"
        )


def ratio(seconds: dict[str, list[float]], ours: str, peer: str) -> float:
    """The speed of `ours` as a multiple of the speed of `peer`, by the medians."""
    return statistics.median(seconds[peer]) / statistics.median(seconds[ours])


def record(bench: str, seconds: dict[str, list[float]], ours: str, peer: str) -> None:
    """Print the speed ratio with its range over the rounds, and append it to results.csv."""
    pairs = zip(seconds[ours], seconds[peer], strict=True)
    rounds = sorted(theirs / our for our, theirs in pairs)
    values = [ratio(seconds, ours, peer), rounds[0], rounds[-1]]
    print(
        f"{bench}: {ours} is {values[0]:.2f} times as fast as {peer} "
        f"(rounds from {values[1]:.2f} to {values[2]:.2f}, n={len(rounds)})"
    )
    row = [datetime.date.today().isoformat(), bench, ours, peer]
    row += [f"{value:.3f}" for value in values]
    row += [len(rounds), _machine(), _versions()]
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow(row)


def _machine() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = f"{len(names)} x {names[0]}" if names else name
    return name


def _versions() -> str:
    versions = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    return ", ".join(versions)
