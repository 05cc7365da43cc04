"""Kill a training over and over, run the same command again, and compare with one left alone.

    python bench/kills.py [--kills 30] [--seed 0] -- train.py train.csv --epochs 10

What follows `--` is the command, run in a folder of its own. The kills are SIGKILLs at random
instants, four in ten of them once a checkpoint's temporary file is seen. Exit code 1 if a published
checkpoint differs in a weight, the optimiser's state or the history (its seconds aside).
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

IN_A_WRITE, WHILE_STARTING = 0.4, 0.1  # shares of the kills; the rest come at any moment
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def main() -> None:
    args = parse_args()
    if args.time_into:
        time_saving(args.command, args.time_into)
        return
    with tempfile.TemporaryDirectory() as work:
        straight = Path(work) / "straight"
        taken = left_alone(args.command, straight)
        print(
            f"left alone: {taken['training']:.1f} s of training, {taken['saving']:.1f} s of it in "
            f"{taken['saves']} times saving, {taken['saving'] / taken['training']:.1%}",
            flush=True,
        )
        killer = Killer(args.command, Path(work), random.Random(args.seed), taken["first_epoch"])
        while killer.kills < args.kills:
            killer.run_and_kill()
        killer.run_to_the_end()
        print(
            f"{killer.kills} kills, {killer.in_a_write} of them inside the write of a checkpoint; "
            f"{killer.resumptions} resumptions; {killer.lost:.1f} s of work lost, "
            f"{killer.lost / killer.kills:.2f} s a kill"
        )
        differing = [line for folder in killer.folders for line in compare(straight, folder)]
        scraps = [path for folder in killer.folders for path in folder.rglob(".ferlab-*")]
    for line in differing:
        print(line)
    verdict = "differ" if differing else "equal the one left alone bit for bit"
    print(f"{len(killer.folders)} trainings that were killed {verdict}; {len(scraps)} scraps left")
    sys.exit(1 if differing or scraps else 0)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--time-into",
        type=Path,
        metavar="FILE",
        help="kill nothing; note the seconds of training and of saving as JSON",
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="train.py DATA ...")
    args = parser.parse_args()
    args.command = [
        str(Path(word).resolve()) if Path(word).exists() else word for word in args.command
    ]
    return args


def left_alone(command: list[str], folder: Path) -> dict[str, float]:
    """What `time_saving` notes of the command in this folder."""
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
    """Run the command in this process, and note its seconds: of training, of saving, ..."""
    from ferlab import training

    keeper, starts, ends, saving = training._Keeper, [], [], []
    begin, end = keeper.on_epoch_begin, keeper.on_epoch_end

    def timed_begin(self, *args, **kwargs):
        starts.append(time.perf_counter())
        begin(self, *args, **kwargs)

    def timed_end(self, *args, **kwargs):
        start = time.perf_counter()
        end(self, *args, **kwargs)
        ends.append(time.perf_counter())
        saving.append(ends[-1] - start)

    keeper.on_epoch_begin, keeper.on_epoch_end = timed_begin, timed_end
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
    seconds = {
        "training": sum(ends) - sum(starts),
        "first_epoch": ends[0] - starts[0],
        "saving": sum(saving),
        "saves": len(saving),
    }
    times.write_text(json.dumps(seconds))


class Killer:
    """Runs the command in a folder, a new one whenever it comes to its end, and kills it."""

    def __init__(
        self, command: list[str], work: Path, chance: random.Random, first_epoch: float
    ) -> None:
        """first_epoch: its seconds, more than the others'; every second kill comes later."""
        self.command, self.work, self.chance = command, work, chance
        self.first_epoch = first_epoch
        self.folders: list[Path] = []
        self.kills = self.in_a_write = self.resumptions = 0
        self.lost, self.startup = 0.0, 5.0
        self._next_folder()

    def run_and_kill(self) -> None:
        kind = self.chance.random()
        moment = self.chance.uniform(0, 2 * self.first_epoch)
        early = self.chance.random() * self.startup
        before = set(self._scraps())
        start, training_since = time.time(), None
        process, log = self._start()
        while process.poll() is None:
            now = time.time()
            if training_since is None and "device: " in log.read_text():
                training_since, self.startup = now, now - start
            if kind < WHILE_STARTING and now - start >= early:
                break
            is_due = training_since and now - training_since >= moment
            if is_due and (kind >= WHILE_STARTING + IN_A_WRITE or set(self._scraps()) - before):
                break
            time.sleep(0.001)
        ended = process.poll() is not None
        process.kill()
        process.wait()
        self._count(log)
        if ended:
            self._require_success(process, log)
            self._next_folder()
            return
        self.kills += 1
        self.in_a_write += bool(set(self._scraps()) - before)
        saved = [path.stat().st_mtime for path in self.folders[-1].rglob("last.h5")]
        if training_since:
            self.lost += time.time() - max([training_since, *saved])

    def run_to_the_end(self) -> None:
        process, log = self._start()
        process.wait()
        self._count(log)
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

    def _count(self, log: Path) -> None:
        self.resumptions += "goes on with" in log.read_text()

    def _require_success(self, process: subprocess.Popen, log: Path) -> None:
        if process.returncode:
            sys.exit(f"{log.read_text()}\nthe command ended with exit code {process.returncode}")

    def _scraps(self) -> Iterator[Path]:
        return self.folders[-1].rglob(".ferlab-*.h5")


def compare(straight: Path, killed: Path) -> list[str]:
    """What differs between the published checkpoints of two folders."""
    published = [
        {
            path.relative_to(folder): path
            for path in folder.rglob("*.h5")
            if path.name != "last.h5" and not path.name.startswith(".")
        }
        for folder in (straight, killed)
    ]
    if published[0].keys() != published[1].keys():
        return [f"{killed.name}: holds {sorted(map(str, published[1]))}"]
    return [
        f"{killed.name}: {name}: {what}"
        for name, path in published[0].items()
        for what in differences(path, published[1][name])
    ]


def differences(one: Path, other: Path) -> Iterator[str]:
    from ferlab import checkpoints
    from ferlab.backend import keras

    opened = [checkpoints.load(path, with_optimizer=True) for path in (one, other)]
    for what, variables in (
        ("weights", [checkpoint.model.variables for checkpoint in opened]),
        ("optimiser", [checkpoint.model.optimizer.variables for checkpoint in opened]),
    ):
        arrays = [[keras.ops.convert_to_numpy(variable) for variable in each] for each in variables]
        pairs = zip(*arrays, strict=True)
        if not all(np.array_equal(*pair) for pair in pairs):
            yield what
    first, second = (dict(checkpoint.record.history) for checkpoint in opened)
    if first | {"seconds": None} != second | {"seconds": None}:
        yield "history"


if __name__ == "__main__":
    main()
