"""Time two things in turn, so that a noisy machine disturbs both alike."""

import statistics
from collections.abc import Callable


def in_turn(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every contender `rounds` times in turn; each returns the seconds that count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(contender())
    return seconds


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
