"""The trainings of a vote: one after another in one folder, resumed after an interruption."""

import datetime
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferlab import files
from ferlab.data import Dataset
from ferlab.errors import InputError
from ferlab.evaluation import metrics
from ferlab.inference import model_list
from ferlab.recipes import Recipe, current_names
from ferlab.training import runs
from ferlab.training.callbacks import duration, snapshot_name
from ferlab.training.fit import Result, train
from ferlab.training.publishing import publish
from models import build_model

LIST_NAME, VOTE_NAME = "model_list.txt", "vote.json"


@dataclass
class VoteTraining:
    """Training runs that provide the members of a vote: the checkpoints of their last epochs.

    recipes: the trainings alternate between them. members: number of checkpoints in the vote.
    snapshots: members per training. seed: seed of the first training; each further training adds 1.
    """

    out_dir: Path
    recipes: Sequence[Recipe]
    members: int
    snapshots: int
    seed: int
    report: Callable[[str], None]

    @property
    def trainings(self) -> int:
        """Number of trainings that the vote requires."""
        return -(-self.members // self.snapshots)

    def train(
        self, dataset: Dataset, validation: Dataset, *, validation_from: str, command: str
    ) -> Path:
        """Run the trainings missing in the folder; return the path of its `model_list.txt`.

        validation_from: the recipe or flag that determines the validation rows. command: for a
        comment in the list. Raises InputError for a folder that cannot be written,
        is in use, or has something other than a part of this vote.
        """
        with runs.hold(self.out_dir):
            vote = self._new_state(dataset, validation)
            vote["trainings"] = self._finished_trainings(vote)
            for recipe in self.recipes:  # refused before files are written, if images are too small
                build_model(recipe.model, dataset.image_shape, dataset.num_classes)
            self._save(vote, command)
            self.report(
                f"{self.members} members, from the last epochs (--snapshots) of {self.trainings} "
                "trainings"
            )
            self.report(
                f"validation rows of every training: {self.recipes[0].validation}, by "
                f"{validation_from} ({len(validation):,} of {len(dataset) + len(validation):,})"
            )
            self._report_progress(vote)
            for index in range(len(vote["trainings"]), self.trainings):
                self.report(f"training {index + 1} of {self.trainings}")
                before = len(_members(vote))
                vote["trainings"].append(self._train_one(index, dataset, validation))
                self._save(vote, command)
                for number, member in enumerate(_members(vote)[before:], start=before + 1):
                    accuracy = _accuracy(member, vote)
                    self.report(f"member {number} of {self.members}: {member['path']}, {accuracy}")
                self._report_progress(vote)
        return self.out_dir / LIST_NAME

    def _new_state(self, dataset: Dataset, validation: Dataset) -> dict[str, Any]:
        """The contents of `vote.json` before the first training."""
        return {
            "members": self.members,
            "snapshots": self.snapshots,
            "seed": self.seed,
            "recipes": [recipe.as_dict() for recipe in self.recipes],
            "data": {
                "source": Path(dataset.source).name,
                "fingerprint": dataset.fingerprint(),
                "validation_fingerprint": validation.fingerprint(),
                "validation_rows": len(validation),
            },
        }

    def _train_one(self, index: int, dataset: Dataset, validation: Dataset) -> dict:
        """Run and publish one training; return its entry in `vote.json`."""
        recipe, seed = self.recipes[index % len(self.recipes)], self.seed + index
        run_dir = self.out_dir / "runs" / f"{index + 1:02d}-{recipe.name}-seed{seed}"
        result = train(
            dataset,
            validation,
            recipe,
            seed=seed,
            run_dir=run_dir,
            keep_epochs=self.snapshots if self.snapshots > 1 else 0,
            report=self.report,
        )
        return self._publish(result, run_dir)

    def _publish(self, result: Result, run_dir: Path) -> dict:
        path = publish(result, self.out_dir)
        accuracies = result.history["val_accuracy"]
        epochs = range(len(accuracies) - self.snapshots, len(accuracies))
        paths = [path]
        if self.snapshots > 1:
            folder = path.with_suffix("")
            paths = [folder / snapshot_name(epoch, accuracies[epoch]) for epoch in epochs]
        for missing in itertools.filterfalse(Path.is_file, paths):
            raise InputError(f"{missing}: no such file; to train it again, delete {run_dir}")
        return {
            "recipe": result.record.recipe["name"],
            "seed": result.record.seed,
            "run": run_dir.relative_to(self.out_dir).as_posix(),
            "seconds": round(sum(result.history["seconds"]), 1),
            "files": [
                {
                    "path": path.relative_to(self.out_dir).as_posix(),
                    "val_accuracy": accuracies[epoch],
                }
                for path, epoch in zip(paths, epochs, strict=True)
            ],
        }

    def _finished_trainings(self, vote: dict) -> list[dict]:
        """The trainings in `vote.json`, up to the first whose files are missing."""
        path = self.out_dir / VOTE_NAME
        files.require_writable(path)
        files.sweep(self.out_dir)
        if not path.exists():
            for other in (self.out_dir / LIST_NAME, self.out_dir / "runs"):
                if other.exists():
                    raise InputError(
                        f"{other}: was not created by vote-train; choose another --out-dir"
                    )
            return []

        earlier = files.read_json(path)
        try:
            runs.require_same_settings(path, _settings(earlier), _settings(vote))
            if earlier["members"] > self.members:
                raise InputError(
                    f"{path}: --members must be {earlier['members']} or more. "
                    f"Received: {self.members}"
                )
            return list(itertools.takewhile(self._has_files, earlier["trainings"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: is not a file of vote-train: {error!r}") from error

    def _has_files(self, training: dict) -> bool:
        return all((self.out_dir / file["path"]).is_file() for file in training["files"])

    def _save(self, vote: dict, command: str) -> None:
        """Write `vote.json`, and the list if its members changed, to preserve fitted weights."""
        files.write_json(self.out_dir / VOTE_NAME, vote)
        path, members = self.out_dir / LIST_NAME, _members(vote)
        if _listed(path) == [self.out_dir / member["path"] for member in members]:
            return
        lines = [
            f"# {datetime.datetime.now():%Y-%m-%d %H:%M}  {command}",
            *(f"1 {member['path']}  # {_accuracy(member, vote)}" for member in members),
        ]
        with files.whole_file(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", "utf-8", errors="backslashreplace")

    def _report_progress(self, vote: dict) -> None:
        """Report how many trainings are finished, and estimate how long all will take."""
        finished, count = vote["trainings"], self.trainings
        if not finished:
            return
        if len(finished) == count:
            self.report(f"all {count} trainings are finished")
            return
        timed = {training["recipe"]: training["seconds"] for training in finished}
        mean = sum(timed.values()) / len(timed)
        names = [self.recipes[index % len(self.recipes)].name for index in range(count)]
        seconds = [timed.get(name, mean) for name in names]
        self.report(
            f"{len(finished)} of {count} trainings are finished; all take about "
            f"{duration(sum(seconds))}, of which {duration(sum(seconds[len(finished) :]))} remain"
        )


def _settings(vote: dict) -> dict:
    """The settings that must not change in a folder, by their names in messages."""
    return {
        "--recipes": ",".join(recipe["name"] for recipe in vote["recipes"]),
        **{
            f"{recipe['name']}'s {name}": value
            for recipe in vote["recipes"]
            for name, value in current_names(recipe).items()
        },
        "--snapshots": vote["snapshots"],
        "--seed": vote["seed"],
        "training rows": vote["data"]["fingerprint"],
        "validation rows": vote["data"]["validation_fingerprint"],
    }


def _members(vote: dict) -> list[dict]:
    """The files of the members; the last training provides only as many as are missing."""
    members: list[dict] = []
    for training in vote["trainings"]:
        missing = vote["members"] - len(members)
        members += training["files"][max(0, len(training["files"]) - missing) :]
    return members


def _accuracy(member: dict, vote: dict) -> str:
    rows = vote["data"]["validation_rows"]
    accuracy = metrics.proportion(round(member["val_accuracy"] * rows), rows)
    return f"validation accuracy {accuracy}"


def _listed(path: Path) -> list[Path]:
    try:
        return [member.path for member in model_list.read(path)]
    except InputError:  # there is no list, or an empty one
        return []
