"""Time two things in turn, so that a noisy machine disturbs both alike."""

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
    """Call every contender `rounds` times in turn; each returns the seconds that count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(contender())
    return seconds


def printed_by(*command: object) -> str:
    """What a Python program prints. Raises InputError with its last words if it fails."""
    words = [sys.executable, *map(str, command)]
    places = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=places)
    if done.returncode:
        *_, last = done.stderr.strip().splitlines() or ["no reason given"]
        name = command[0] if command[0] != "-c" else "a program"
        raise InputError(
            f"{name} ended with exit code {done.returncode}: {last.removeprefix('error: ')}"
        )
    return done.stdout


def report(seconds: dict[str, list[float]], unit_count: int = 1, unit: str = "s") -> None:
    """Print the median and the range of each; with a unit count, units a second."""
    for name, values in seconds.items():
        shown = sorted(unit_count / value for value in values) if unit_count > 1 else sorted(values)
        print(
            f"{name:24s} median {statistics.median(shown):9.3f} {unit}   "
            f"from {shown[0]:.3f} to {shown[-1]:.3f}, n={len(shown)}"
        )


def ratio(seconds: dict[str, list[float]], ours: str, peer: str) -> float:
    """How many times faster ours is than the peer, by the medians."""
    return statistics.median(seconds[peer]) / statistics.median(seconds[ours])


def record(bench: str, seconds: dict[str, list[float]], ours: str, peer: str) -> None:
    """Print how many times faster ours is, with the spread over the rounds, and keep the line."""
    rounds = sorted(other / own for own, other in zip(seconds[ours], seconds[peer], strict=True))
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
    found = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
