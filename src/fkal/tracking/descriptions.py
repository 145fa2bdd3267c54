"""The description of each run, in Markdown, as MLflow's page shows it: what it is, its curve, the command."""

from collections.abc import Sequence
from typing import Protocol

from fkal.engine.rounds import Round
from fkal.tracking.metrics import stored_metrics

PAPER_NOTE = (
    "**Protocol `paper`: each iteration's epoch was chosen on the TEST set** (the authors' rule). "
    "These accuracies are optimistic; compare them with the published curves and with nothing else."
)
CURVE = "curve.png"
PICKS = "selected.png"
MOST_ROWS = 20
"""A note has at most 5,000 characters, so the table of a long run skips rounds."""
COLUMNS = {
    "accuracy/test": "test accuracy",
    "accuracy/holdout": "held-out accuracy",
    "accuracy/rare": "rare classes",
    "accuracy/holdout_rare": "rare classes",
    "accuracy/worst": "worst class",
    "accuracy/holdout_worst": "worst class",
}


class Described(Protocol):
    """What a description needs of an experiment."""

    @property
    def title(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def rounds(self) -> int: ...

    def command(self, seeds: Sequence[int]) -> str: ...


def experiment_note(experiment: Described, seed: int, run_id: str, finished: Sequence[Round]) -> str:
    """Of a seed's run; the curve is there once rounds are finished."""
    what = f"One experiment: **{experiment.title}**, {experiment.rounds} rounds. The rounds are the runs below it."
    parts = [*_paper(experiment.protocol), what]
    if finished:
        parts += [picture("accuracy against labels used", run_id, CURVE), _table(finished)]
    return "\n\n".join([*parts, _made_by(experiment.command([seed]))])


def round_note(experiment: Described, seed: int, run_id: str, finished: Round) -> str:
    """Of a round's run."""
    scores = _scores(finished)
    said = ", ".join(f"{COLUMNS[name]} {100 * value:.1f} %" for name, value in scores.items())
    picks = len(finished.selection.indices)
    parts = [
        *_paper(experiment.protocol),
        f"Round {finished.b} of {experiment.rounds} of **{experiment.title}**: {picks:,} images were picked and "
        f"labeled ({finished.labels_used:,} labels used by now), then the model was trained.",
        *([f"Then: {said}."] if said else []),
        picture("the picked images", run_id, PICKS),
        _made_by(experiment.command([seed])),
    ]
    return "\n\n".join(parts)


def method_note(title: str, seeds: str, count: int, run_id: str, *, protocol: str, command: str) -> str:
    """Of a method's run."""
    mean = f"the mean over {count} seeds ({seeds})" if count > 1 else f"of seed {seeds}"
    spread = "`accuracy/...` are means; `spread/...` is the standard deviation over the seeds. " if count > 1 else ""
    parts = [
        *_paper(protocol),
        f"A method: **{title}**, {mean}. {spread}The seeds are the runs below it; this run is made again whenever "
        "a seed finishes.",
        picture("accuracy against labels used", run_id, CURVE),
        _made_by(command),
    ]
    return "\n\n".join(parts)


def picture(alternative: str, run_id: str, path: str) -> str:
    """An artifact of the run, by the address at which MLflow's server has it."""
    return f"![{alternative}](get-artifact?path={path}&run_uuid={run_id})"


def _paper(protocol: str) -> list[str]:
    return [PAPER_NOTE] if protocol == "paper" else []


def _made_by(command: str) -> str:
    return f"Made by\n\n    {command}"


def _scores(finished: Round) -> dict[str, float]:
    stored = stored_metrics(finished.metrics)
    return {name: stored[name] for name in COLUMNS if name in stored}


def _table(rounds: Sequence[Round]) -> str:
    """Accuracies in %; of many rounds every second or third, and the last."""
    names = list(_scores(rounds[-1]))
    step = -(-len(rounds) // MOST_ROWS)
    shown = [each for i, each in enumerate(rounds) if i % step == 0 or each is rounds[-1]]
    head = ["labels used", *(f"{COLUMNS[name]}, %" for name in names)]
    rows = [[f"{r.labels_used:,}", *(f"{100 * _scores(r)[name]:.1f}" for name in names)] for r in shown]
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
