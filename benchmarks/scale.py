"""Selection from a pool on disk: seconds and peak anonymous memory by the size of the pool.

    python benchmarks/scale.py [--pool 100000 1000000] [--width 768] [--methods random margin ...] [--folder scale]

Makes up descriptors in half precision, a block at a time, in `pool.npy` below the folder, and removes them at the end.
Each row runs in a process of its own, whose anonymous memory (RssAnon, which leaves mapped pages out) is looked at
every 20 ms. A row that `scale.json` in the folder has is not measured again, so a run that was ended goes on.
`--whole` reads the pool into memory instead, for the same picks. `--parts` chooses in parts of the pool.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import fkal

METHODS = ("random", "margin", "coreset", "pfk_joint_shift", "fisher_coverage")
BLOCK = 1 << 16
SPREAD = 8.0
"""How far the means of the classes are apart, in deviations of an image from its mean, over all features."""


def classes_of(n: int, classes: int, seed: int) -> torch.Tensor:
    """Class k is drawn with the weight 1 / (k + 1): a long tail."""
    weights = 1 / torch.arange(1, classes + 1)
    return torch.multinomial(weights, n, replacement=True, generator=torch.Generator().manual_seed(seed))


def rows_of(y: torch.Tensor, width: int, seed: int) -> torch.Tensor:
    means = torch.randn(int(y.max()) + 1, width, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(len(y), width, generator=torch.Generator().manual_seed(seed))
    return (noise.add_(means[y], alpha=SPREAD / width**0.5)).half()


def probabilities_of(y: torch.Tensor, classes: int, seed: int) -> torch.Tensor:
    logits = torch.randn(len(y), classes, generator=torch.Generator().manual_seed(seed))
    logits[torch.arange(len(y)), y] += 2
    return logits.softmax(dim=1)


def made_pool(folder: Path, n: int, width: int, classes: int) -> None:
    """`pool.npy`, whole or not at all, of this size."""
    path, partial = folder / "pool.npy", folder / "pool.npy.partial"
    if path.exists() and np.load(path, mmap_mode="r").shape == (n, width):
        return
    path.unlink(missing_ok=True)
    y = classes_of(n, classes, 1)
    file = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=(n, width))
    for block, first in enumerate(range(0, n, BLOCK)):
        file[first : first + BLOCK] = rows_of(y[first : first + BLOCK], width, 2 + block).numpy()
    file.flush()
    partial.rename(path)


def measured(arguments: argparse.Namespace, n: int, method: str) -> dict[str, object]:
    """In this process: what the method picks, and how long that takes once its inputs are there."""
    torch.set_num_threads(arguments.threads)
    classes, m = arguments.classes, arguments.targets
    y, y_t = classes_of(n, classes, 1), torch.arange(m) % classes
    pool = np.load(arguments.folder / "pool.npy", mmap_mode=None if arguments.whole else "r")
    given = {
        "probabilities": probabilities_of(y, classes, -1),
        "target_probabilities": probabilities_of(y_t, classes, -2),
        "target_labels": y_t,
    }
    start, started = time.perf_counter(), time.process_time()
    picks = fkal.select(
        pool,
        rows_of(y_t, arguments.width, -3),
        n=arguments.picks,
        method=method,
        stream_above_gb=float("inf") if arguments.whole else 0.0,
        parts=arguments.parts,
        **given,
    )
    seconds, of_cpu = time.perf_counter() - start, time.process_time() - started
    digest = hashlib.sha256(picks.positions.numpy().tobytes()).hexdigest()[:12]
    return {"seconds": round(seconds, 1), "cpu_seconds": round(of_cpu, 1), "picks_digest": digest}


def anonymous_gb(pid: int) -> float:
    """What a process holds that is no page of a file; 0 for one that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(kilobytes[0]) * 1024 / 1e9 if kilobytes else 0.0


def row(arguments: argparse.Namespace, n: int, method: str) -> dict[str, object]:
    command = [sys.executable, __file__, *sys.argv[1:], "--row", str(n), method]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_gb(process.pid))
            time.sleep(0.02)
        told = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(f"{method} with {n} rows ended with {process.returncode}")
    return {**key_of(arguments, n, method), **json.loads(told), "peak_anonymous_gb": round(peak, 2)}


def key_of(arguments: argparse.Namespace, n: int, method: str) -> dict[str, object]:
    settings = ("width", "classes", "targets", "picks", "threads", "whole", "parts")
    return {"method": method, "pool": n, **{name: getattr(arguments, name) for name in settings}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    for name, value in (("width", 768), ("classes", 10), ("targets", 500), ("picks", 50), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--parts", type=int, default=None, help="choose in so many parts")
    parser.add_argument("--whole", action="store_true", help="read the pool into memory")
    parser.add_argument("--folder", type=Path, default=Path("scale"))
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measured(arguments, int(arguments.row[0]), arguments.row[1])))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    kept = arguments.folder / "scale.json"
    rows = json.loads(kept.read_text()) if kept.exists() else []
    for n in arguments.pool:
        for method in arguments.methods:
            key = key_of(arguments, n, method)
            known = [each for each in rows if key.items() <= each.items()]
            if not known:
                made_pool(arguments.folder, n, arguments.width, arguments.classes)
                known = [row(arguments, n, method)]
                rows += known
                kept.write_text(json.dumps(rows, indent=1))
            print(" ".join(f"{name}={value}" for name, value in known[0].items()), flush=True)
    (arguments.folder / "pool.npy").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
