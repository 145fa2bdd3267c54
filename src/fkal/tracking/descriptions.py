"""The description of each run, in Markdown, as MLflow's page shows it: what it is, its curve, the command."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from fkal.engine.rounds import Round
from fkal.tracking.metrics import stored_metrics

PAPER_NOTE = (
    "**Protocol `paper`: each round's epoch was chosen on the TEST set** (the authors' rule). "
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
    what = f"One experiment of {experiment.rounds} rounds, which are the runs below it."
    if not finished:
        said = f"**{experiment.title}**: at work."
        return "\n\n".join([*_paper(experiment.protocol), said, what, _made_by(experiment.command([seed]))])
    last = finished[-1]
    said = f"**{experiment.title}**: {_said(_scores(last))} with {last.labels_used:,} labels."
    figures = [picture("accuracy against labels used", run_id, CURVE), _table(finished)]
    return "\n\n".join([*_paper(experiment.protocol), said, *figures, what, _made_by(experiment.command([seed]))])


def round_note(experiment: Described, seed: int, run_id: str, finished: Round) -> str:
    """Of a round's run."""
    picks = len(finished.selection.indices)
    parts = [
        *_paper(experiment.protocol),
        f"**Round {finished.b} of {experiment.rounds}** of {experiment.title}: {picks:,} images were picked and "
        f"labeled, {finished.labels_used:,} by now; then {_said(_scores(finished))}.",
        picture("the picked images", run_id, PICKS),
        _made_by(experiment.command([seed])),
    ]
    return "\n\n".join(parts)


def method_note(
    title: str, seeds: str, run_id: str, metrics: Mapping[str, float], *, labels: int, protocol: str, command: str
) -> str:
    """Of a method's run; `metrics` are the last of each name."""
    several = [name for name in metrics if name.startswith("spread/")]
    whose = f"mean over seeds {seeds}" if several else f"seed {seeds}"
    how = "`accuracy/...` are means, `spread/...` the standard deviation over the seeds. " if several else ""
    parts = [
        *_paper(protocol),
        f"**{title}**: {_said(metrics)} with {labels:,} labels ({whose}).",
        picture("accuracy against labels used", run_id, CURVE),
        f"{how}The seeds are the runs below this one, which is made again whenever a seed finishes.",
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


def _said(metrics: Mapping[str, float]) -> str:
    """`80.1 ± 0.7 % test accuracy, 65.9 % on rare classes`."""
    words = []
    for name, what in COLUMNS.items():
        if name in metrics:
            spread = metrics.get(f"spread/{name.removeprefix('accuracy/')}")
            deviation = "" if spread is None else f" ± {100 * spread:.1f}"
            words.append(f"{100 * metrics[name]:.1f}{deviation} % {what}")
    return ", ".join(words) or "no accuracy was measured"


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
