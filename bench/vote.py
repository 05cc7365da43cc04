"""What a vote costs beside its members' forward passes, and what it costs again.

    python bench/vote.py test.csv model_list.txt

The first call asks every member, with an empty cache; of each, the time in the network is taken.
Further calls have other weights. Imports are left out.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import report

AGAIN = 5


def main() -> None:
    data_path, list_path = sys.argv[1], Path(sys.argv[2])
    from ferlab import backend, inference, voting

    print(backend.describe_device())
    forward = []
    predict = inference.predict

    def timed_predict(*args, **kwargs):
        start = time.perf_counter()
        found = predict(*args, **kwargs)
        forward.append(time.perf_counter() - start)
        return found

    inference.predict = timed_predict

    def vote(cache_dir: Path, add: int) -> float:
        start = time.perf_counter()
        members = voting.read_model_list(list_path)
        dataset = voting.read_for(members, data_path, None)
        probabilities = voting.collect(
            members,
            dataset,
            batch_size=256,
            cache_dir=cache_dir,
            report=lambda line: None,
        )
        weights = [member.weight + (number + add) % 3 for number, member in enumerate(members)]
        voting.combine(probabilities, weights, "soft").argmax(axis=1)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        first = vote(Path(folder), 0)
        again = [vote(Path(folder), number) for number in range(AGAIN)]
    report({"a member's forward pass": forward, "the vote again": again})
    print(
        f"{len(forward)} members: {first:.1f} s, {sum(forward):.1f} s of it in their forward "
        f"passes; ratio {first / sum(forward):.3f}"
    )


if __name__ == "__main__":
    main()
