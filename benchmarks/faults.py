"""What the checks against kills and faults cost, as a share of an MNIST run in the same process.

    python benchmarks/faults.py --data-root ~/datasets

The baseline is the paper's MNIST experiment (ir = 100, joint labels) on pretrained weights, in CPU-seconds of this
process. Each check is then timed on what that run left: a round's digest and types, written and read; a lock with the
name of its holder; the store's file, made under another name and looked at again; calls that would wait.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fkal.cli.terminal import say
from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.experiment.experiment import prepare
from fkal.locks import NamedLock
from fkal.results.round_facts import facts_bytes, read_facts
from fkal.runner.single import run_one
from fkal.tracking.patience import patiently
from fkal.tracking.store_file import ensure_store_file

REPEATS = 20
LOCKS = 4
"""In a run: of the store, of the split, of the pretrained weights, of the state."""
STORES = 2
"""Times that a run looks at the store's file."""
CALLS_OF_A_ROUND = 60
"""More than tracking a round takes."""
LIMIT = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    layers = [
        from_file(preset("mnist"), "preset mnist"),
        from_assignments([f"data.root={arguments.data_root}", f"acquisition.rounds={arguments.rounds}"]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        experiment = prepare(merged(layers), out, say)
        for _ in experiment.theta_0():
            pass
        start = time.process_time()
        run_one(experiment, out, f"sqlite:///{out / 'mlflow.db'}")
        baseline = time.process_time() - start
        (facts,) = out.glob("state/*/round-01.json")
        costs = checks(out, facts.read_bytes(), arguments.rounds)
    print(f"baseline: the MNIST run of {arguments.rounds} rounds, {baseline:.1f} CPU-seconds")
    for name, seconds in {**costs, "all of them": sum(costs.values())}.items():
        print(f"{name}: {seconds / baseline:.4%} of the baseline")
    print(f"all of them stay below {LIMIT:.0%}: {sum(costs.values()) < LIMIT * baseline}")


def checks(out: Path, content: bytes, rounds: int) -> dict[str, float]:
    """CPU-seconds of each check in a run of so many rounds."""
    facts = json.loads(content)
    store = out / "mlflow.db"
    return {
        "a digest written and checked each round": rounds * (
            _least(partial(facts_bytes, facts)) - _least(partial(json.dumps, facts, indent=1))
            + _least(partial(read_facts, content)) - _least(partial(json.loads, content))
        ),
        "locks that name their holder": LOCKS * _least(partial(_hold, out / "a.lock")),
        "the store's file looked at": STORES * _least(partial(ensure_store_file, store, say)),
        "the store's file closed and renamed": _least(partial(_switched_and_renamed, out)),
        "calls that would wait": rounds * CALLS_OF_A_ROUND * _least(partial(patiently, _nothing, "store", say)),
    }  # fmt: skip


def _least(work: Callable[[], object]) -> float:
    """CPU-seconds of the fastest of some."""
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def _hold(path: Path) -> None:
    with NamedLock(path):
        pass


def _switched_and_renamed(out: Path) -> None:
    """What a new store costs beyond MLflow's own tables."""
    from fkal.tracking.store_file import _put_in_place

    new, place = out / "made.db.new", out / "made.db"
    place.unlink(missing_ok=True)
    new.write_bytes((out / "mlflow.db").read_bytes())
    _put_in_place(new, place)


def _nothing() -> None:
    """A call of a store that is not locked."""


if __name__ == "__main__":
    main()
