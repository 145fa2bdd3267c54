"""The page from top to bottom."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fkal.data.datasets import Dataset
from fkal.plots.method_styles import Style
from fkal.report.datasets import dataset_of
from fkal.report.exhibit import Exhibit, Section
from fkal.report.figures.accuracy import accuracy_exhibits
from fkal.report.figures.class_counts import confusion_exhibit, counts_exhibit
from fkal.report.figures.cost import COSTS, cost_exhibit, pseudo_exhibit
from fkal.report.figures.picked_images import picked_exhibit
from fkal.report.figures.pseudo_labels import prior_exhibit
from fkal.report.figures.tsne import tsne_exhibit
from fkal.report.honest_rows import honest_exhibit
from fkal.report.panels import Panel
from fkal.report.stats.labels_needed import targets
from fkal.report.tables import evidence_exhibit, needed_exhibits, penalty_exhibit, ranking_exhibit

EVIDENCE = (
    "A method is called better only where the test says so. With one seed nothing can be concluded; with few, a "
    "missing difference is not equality."
)

SECTIONS = 9


def sections_of(
    panels: Sequence[Panel],
    styles: Mapping[str, Style],
    *,
    accuracies: Sequence[float] | None,
    test: str,
    against: str | None,
    data_root: Path | None,
) -> Iterator[Section]:
    """`SECTIONS` of them, each made when it is asked for: pictures of many panels take minutes."""

    def curves(score: str) -> list[Exhibit]:
        return [accuracy_exhibits(panel, styles, score) for panel in panels]

    yield Section("accuracy", "Accuracy", "", [*curves("accuracy"), *map(ranking_exhibit, panels)])
    balanced = [*curves("macro_accuracy"), *(honest_exhibit(p, test) for p in panels)]
    yield Section("balanced", "Balanced accuracy", "", balanced)
    rare = [*curves("minority_accuracy"), *curves("worst_class_accuracy")]
    yield Section("rare", "Rare and worst classes", "", rare)
    needed = [
        each for panel in panels for each in needed_exhibits(panel, styles, accuracies or targets(panel), against)
    ]
    yield Section("labels", "Labels needed", "", needed)
    tests = [evidence_exhibit(panel, test, against) for panel in panels]
    yield Section("evidence", "Evidence", EVIDENCE, [*tests, penalty_exhibit(panels)])
    yield Section("cost", "Cost", "", [cost_exhibit(p, styles, unit) for unit in COSTS for p in panels])
    pseudo = [*(pseudo_exhibit(p, styles) for p in panels), *(prior_exhibit(p, styles) for p in panels)]
    yield Section("pseudo", "Pseudo-labels", "", pseudo)
    datasets = {panel.name: dataset_of(panel.finished, data_root) for panel in panels}
    labeled = [*map(counts_exhibit, panels), *_picked(panels, datasets)]
    yield Section("labeled", "What was labeled", "", labeled)
    errors = [*map(confusion_exhibit, panels), *(tsne_exhibit(p, datasets[p.name]) for p in panels)]
    yield Section("errors", "Errors", "", errors)


def _picked(panels: Sequence[Panel], datasets: Mapping[str, Dataset | str]) -> list[Exhibit]:
    sheets = []
    for panel in panels:
        dataset = datasets[panel.name]
        if isinstance(dataset, str):
            title = f"{panel.title}: picked images"
            sheets.append(Exhibit(f"picked-{panel.name}", title, missing=f"{title}: {dataset}."))
        else:
            sheets += [picked_exhibit(panel, method, dataset.train) for method in panel.methods]
    return sheets
