"""Kill a training repeatedly, resume it each time, and compare with an uninterrupted run.

    python bench/kills.py [--kills 30] [--seed 0] -- train.py train.csv --epochs 10

The command after `--` runs in a new folder. Kills are SIGKILLs at random moments, four in ten of
them while a checkpoint is being written. Exit code 1 if a published checkpoint differs in a weight,
the optimizer state or the history (except its seconds).
"""

import argparse
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

DURING_WRITE, DURING_START = 0.4, 0.1  # fractions of the kills; the others come at any moment
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def main() -> None:
    args = parse_args()
    if args.time_into:
        time_saving(args.command, args.time_into)
        return
    with tempfile.TemporaryDirectory() as work:
        uninterrupted = Path(work) / "uninterrupted"
        times = run_uninterrupted(args.command, uninterrupted)
        print(
            f"uninterrupted: {times['training']:.1f} s of training, "
            f"of which {times['saving']:.1f} s ({times['saving'] / times['training']:.1%}) "
            f"for {times['saves']} saves",
            flush=True,
        )
        killer = Killer(args.command, Path(work), random.Random(args.seed), times["first_epoch"])
        while killer.kills < args.kills:
            killer.run_and_kill()
        killer.run_to_the_end()
        print(
            f"{killer.kills} kills, {killer.during_write} of them while writing a checkpoint; "
            f"{killer.resumptions} resumptions; {killer.lost:.1f} s of training lost, "
            f"{killer.lost / killer.kills:.2f} s per kill"
        )
        differences = [line for folder in killer.folders for line in compare(uninterrupted, folder)]
        leftovers = [path for folder in killer.folders for path in folder.rglob(".ferlab-*")]
    for line in differences:
        print(line)
    verdict = "differ from" if differences else "equal bit for bit"
    print(f"{len(killer.folders)} killed runs {verdict} the uninterrupted one")
    print(f"{len(leftovers)} temporary files left")
    sys.exit(1 if differences or leftovers else 0)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--time-into",
        type=Path,
        metavar="FILE",
        help="kill nothing; write the seconds of training and of saving as JSON",
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="train.py DATA ...")
    args = parser.parse_args()
    args.command = [
        str(Path(word).resolve()) if Path(word).exists() else word for word in args.command
    ]
    return args


def run_uninterrupted(command: list[str], folder: Path) -> dict[str, float]:
    """Run the command in this folder; return the times that `time_saving` writes."""
    folder.mkdir()
    times = folder / "times.json"
    subprocess.run(
        [sys.executable, __file__, "--time-into", times, "--", *command],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return json.loads(times.read_text())


def time_saving(command: list[str], times: Path) -> None:
    """Run the command in this process; write the seconds of training and saving as JSON."""
    from ferlab import checkpoints
    from ferlab.backend import keras

    fit, save = keras.Model.fit, checkpoints.save
    starts, training, saving, first_epoch = [], [], [], []

    def timed_fit(*args, **kwargs):
        starts.append(time.perf_counter())
        history = fit(*args, **kwargs)
        training.append(time.perf_counter() - starts[-1])
        return history

    def timed_save(*args, **kwargs):
        start = time.perf_counter()
        save(*args, **kwargs)
        if len(training) < len(starts):  # within a fit
            end = time.perf_counter()
            saving.append(end - start)
            first_epoch.append(end - starts[0])

    keras.Model.fit, checkpoints.save = timed_fit, timed_save
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
    seconds = {
        "training": sum(training),
        "first_epoch": first_epoch[0],
        "saving": sum(saving),
        "saves": len(saving),
    }
    times.write_text(json.dumps(seconds))


class Killer:
    """Runs and kills the command; starts in a new folder whenever a run has finished."""

    def __init__(
        self, command: list[str], work: Path, rng: random.Random, first_epoch: float
    ) -> None:
        """first_epoch: seconds of the first, slowest epoch; half of the kills come after it."""
        self.command, self.work, self.rng = command, work, rng
        self.first_epoch = first_epoch
        self.folders: list[Path] = []
        self.kills = self.during_write = self.resumptions = 0
        self.lost, self.startup = 0.0, 5.0
        self._next_folder()

    def run_and_kill(self) -> None:
        kind = self.rng.random()
        moment = self.rng.uniform(0, 2 * self.first_epoch)
        early = self.rng.random() * self.startup
        before = set(self._temporary_files())
        has_checkpoint = any(self.folders[-1].rglob("last.h5"))
        start, training_since = time.time(), None
        process, log = self._start()
        while process.poll() is None:
            now = time.time()
            if training_since is None and "device: " in log.read_text():
                training_since, self.startup = now, now - start
            if kind < DURING_START and now - start >= early:
                break
            is_due = training_since and now - training_since >= moment
            is_writing = bool(set(self._temporary_files()) - before)
            if is_due and (is_writing or kind >= DURING_START + DURING_WRITE):
                break
            time.sleep(0.001)
        has_ended = process.poll() is not None
        process.kill()
        process.wait()
        self.resumptions += has_checkpoint and training_since is not None
        if has_ended:
            self._require_success(process, log)
            self._next_folder()
            return
        self.kills += 1
        self.during_write += bool(set(self._temporary_files()) - before)
        saved = [path.stat().st_mtime for path in self.folders[-1].rglob("last.h5")]
        if training_since:
            self.lost += time.time() - max([training_since, *saved])

    def run_to_the_end(self) -> None:
        self.resumptions += any(self.folders[-1].rglob("last.h5"))
        process, log = self._start()
        process.wait()
        self._require_success(process, log)

    def _next_folder(self) -> None:
        self.folders.append(self.work / f"killed-{len(self.folders)}")
        self.folders[-1].mkdir()

    def _start(self) -> tuple[subprocess.Popen, Path]:
        log = self.work / "log.txt"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=self.folders[-1],
                env=ENVIRONMENT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return process, log

    def _require_success(self, process: subprocess.Popen, log: Path) -> None:
        if process.returncode:
            sys.exit(f"{log.read_text()}\nthe command ended with exit code {process.returncode}")

    def _temporary_files(self) -> Iterator[Path]:
        return self.folders[-1].rglob(".ferlab-*.h5")


def compare(uninterrupted: Path, killed: Path) -> list[str]:
    """The differences between the published checkpoints of two folders."""
    published = [
        {
            path.relative_to(folder): path
            for path in folder.rglob("*.h5")
            if path.name != "last.h5" and not path.name.startswith(".")
        }
        for folder in (uninterrupted, killed)
    ]
    if published[0].keys() != published[1].keys():
        return [f"{killed.name}: contains {sorted(map(str, published[1]))}"]
    return [
        f"{killed.name}: {name}: {part}"
        for name, path in published[0].items()
        for part in differing_parts(path, published[1][name])
    ]


def differing_parts(one: Path, other: Path) -> Iterator[str]:
    from ferlab import checkpoints
    from ferlab.backend import keras

    pair = [checkpoints.load(path, with_optimizer=True) for path in (one, other)]
    for part, variables in (
        ("weights", [checkpoint.model.variables for checkpoint in pair]),
        ("optimizer", [checkpoint.model.optimizer.variables for checkpoint in pair]),
    ):
        arrays = [[keras.ops.convert_to_numpy(variable) for variable in each] for each in variables]
        if not all(np.array_equal(*values) for values in zip(*arrays, strict=True)):
            yield part
    first, second = (dict(checkpoint.record.history) for checkpoint in pair)
    if first | {"seconds": None} != second | {"seconds": None}:
        yield "history"


if __name__ == "__main__":
    main()
