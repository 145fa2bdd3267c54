"""What a round costs: Table 1 of the paper as data, and beside it what is counted here.

A pass is one image once through a model, forward or backward. Letters are the paper's (`LETTERS`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from fkal.acquisition.settings import EPIG_TARGETS

LETTERS: Mapping[str, str] = MappingProxyType(
    {
        "N": "pool images",
        "N^b": "unlabeled images",
        "N_b": "labeled images, with the round's own",
        "N_(b-1)": "labeled images, without the round's own",
        "M": "validation images",
        "Q": "validation images drawn as targets",
        "T": "test images",
        "D": "classes",
        "I": "epochs",
        "I_VAE": "epochs of VAAL's VAE",
        "I_D": "epochs of VAAL's discriminator",
        "I_VAE,D": "epochs of both",
        "K": "samples",
        "E": "models",
    }
)
"""What the formulas speak of."""


def letters_in(*formulas: str) -> list[str]:
    """In the order of `LETTERS`, each once; of two that fit the longer is meant."""
    longest_first = sorted(LETTERS, key=len, reverse=True)
    found = re.findall("|".join(map(re.escape, longest_first)), " ".join(formulas))
    return [letter for letter in LETTERS if letter in found]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the passes of one round depend on.

    `vae_images` and `discriminator_images` are those that VAAL's two networks learn from, each
    counted as often as it stands in a batch: the paper's N I_VAE,D together.
    """

    unlabeled: int  # N^b
    labeled_before: int  # N_(b-1)
    labeled: int  # N_b
    validation: int  # M
    test: int  # T
    classes: int  # D
    epochs: int  # I
    samples: int  # K
    members: int  # E
    vae_images: int = 0
    discriminator_images: int = 0

    @property
    def targets(self) -> int:
        """Q, of EPIG."""
        return min(EPIG_TARGETS, self.validation)

    @property
    def letters(self) -> dict[str, int | float]:
        """What the letters stand for."""
        pool = self.unlabeled + self.labeled_before
        return {
            "N": pool,
            "N^b": self.unlabeled,
            "N_b": self.labeled,
            "N_(b-1)": self.labeled_before,
            "M": self.validation,
            "Q": self.targets,
            "T": self.test,
            "D": self.classes,
            "I": self.epochs,
            "I_VAE": self.vae_images / pool,
            "I_D": self.discriminator_images / pool,
            "I_VAE,D": (self.vae_images + self.discriminator_images) / pool,
            "K": self.samples,
            "E": self.members,
        }


Count = Callable[[Sizes], int]


class Passes(NamedTuple):
    """Images through a forward and through a backward pass."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        return self.forward + self.backward

    def plus(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.backward + other.backward)


class Formula(NamedTuple):
    """Forward and backward passes together, as printed and as a function."""

    text: str
    passes: Count


class Row(NamedTuple):
    """A line of Table 1."""

    acquisition: Formula  # the paper's AL phase
    training: Formula


TRAINING = Formula("2 I N_b", lambda s: 2 * s.epochs * s.labeled)

TABLE_1: Mapping[str, Row] = MappingProxyType(
    {
        "uncertainty": Row(Formula("K N^b", lambda s: s.samples * s.unlabeled), TRAINING),
        "ensemble": Row(
            Formula("E K N^b", lambda s: s.members * s.samples * s.unlabeled),
            Formula("2 E I N_b", lambda s: 2 * s.members * s.epochs * s.labeled),
        ),
        "VAAL": Row(
            Formula("N^b + 2 N I_VAE,D", lambda s: s.unlabeled + 2 * (s.vae_images + s.discriminator_images)), TRAINING
        ),
        "PCC": Row(Formula("M + N^b", lambda s: s.validation + s.unlabeled), TRAINING),
        "PFK": Row(Formula("2 (M + N^b)", lambda s: 2 * (s.validation + s.unlabeled)), TRAINING),
        "PFK, MC labels": Row(
            Formula("K D (M + N^b)", lambda s: s.samples * s.classes * (s.validation + s.unlabeled)), TRAINING
        ),
    }
)
"""The paper's rows by name."""

EVALUATION = Formula("E (M + T)", lambda s: s.members * (s.validation + s.test))
EVALUATION_ON_TEST = Formula("E T", lambda s: s.members * s.test)
EVALUATION_ON_TEST_EACH_EPOCH = Formula("E (I + 1) T", lambda s: s.members * (s.epochs + 1) * s.test)
"""Where validation images are trained on: their predictions come from the cross-fitting."""
EVALUATION_ONCE = Formula("T in b = 1", lambda s: s.test if s.labeled_before == 0 else 0)
EVALUATION_EACH_EPOCH = Formula("E (M + (I + 1) T)", lambda s: s.members * (s.validation + (s.epochs + 1) * s.test))
"""Forward alone, not in Table 1; the latter is what the authors' rule of the best epoch looks at."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an acquisition costs here, and its row of Table 1 (None: it has none).

    `why` says what the row counts differently, or what a count that agrees stands for.
    """

    row: str | None
    text: str
    forward: Count
    backward: Count = lambda s: 0
    why: str = ""

    def passes(self, sizes: Sizes) -> Passes:
        return Passes(self.forward(sizes), self.backward(sizes))

    @property
    def printed(self) -> Formula | None:
        """Table 1's formula of the acquisition."""
        return None if self.row is None else TABLE_1[self.row].acquisition

    @property
    def training(self) -> Formula:
        """Table 1's formula of the training, which is the same for methods that it does not have."""
        return TRAINING if self.row is None else TABLE_1[self.row].training

    def plus(self, more: "Cost") -> "Cost":
        """Both together; `more` says which row they are and why."""
        return Cost(
            row=more.row,
            text=" + ".join(text for text in (self.text, more.text) if text != NO_PASS.text),
            forward=lambda s: self.forward(s) + more.forward(s),
            backward=lambda s: self.backward(s) + more.backward(s),
            why=more.why,
        )


def training(sizes: Sizes) -> Passes:
    """Of all models together; every label is seen once an epoch."""
    seen = sizes.members * sizes.epochs * sizes.labeled
    return Passes(seen, seen)


EMBEDDING = Cost(
    row=None,
    text="M + N in b = 1",
    forward=lambda s: s.validation + s.unlabeled if s.labeled_before == 0 else 0,
    why="a frozen run embeds each image once, whatever its method; the head reads embeddings",
)
NO_PASS = Cost(row=None, text="0", forward=lambda s: 0, why="it looks at no image")

UNCERTAINTY = Cost(
    row="uncertainty",
    text="K N^b",
    forward=lambda s: s.samples * s.unlabeled,
    why="each of the K passes counts as one, though what precedes the first dropout is computed once",
)
ENSEMBLE = Cost(
    row="ensemble",
    text="E K N^b",
    forward=lambda s: s.members * s.samples * s.unlabeled,
    why=UNCERTAINTY.why,
)
VAAL = Cost(
    row="VAAL",
    text="N^b + N (2 I_VAE + I_D)",
    forward=lambda s: s.unlabeled + s.vae_images + s.discriminator_images,
    backward=lambda s: s.vae_images,
    why="what the discriminator learns from passes the VAE forward alone, where Table 1 counts 2 passes",
)
PCC = Cost(row="PCC", text="M + N^b", forward=lambda s: s.validation + s.unlabeled)
PFK = Cost(
    row="PFK",
    text="2 (M + N^b)",
    forward=lambda s: s.validation + s.unlabeled,
    backward=lambda s: s.validation + s.unlabeled,
)
POSTERIORS = Cost(row=None, text="M + N^b", forward=PCC.forward)
WEIGHED_POSTERIORS = Cost(
    row=None,
    text="M + N^b + N_(b-1)",
    forward=lambda s: s.validation + s.unlabeled + s.labeled_before,
)
CORE_SET = Cost(
    row=None,
    text="N^b + N_(b-1)",
    forward=lambda s: s.unlabeled + s.labeled_before,
    why="features of the open and of the labeled images",
)
ONE_PASS = Cost(row=None, text="N^b", forward=lambda s: s.unlabeled, why="one pass without dropout")
CALIBRATED = Cost(
    row=None,
    text="M + N^b + N_(b-1)",
    forward=lambda s: s.validation + s.unlabeled + s.labeled_before,
    why="features of the open and of the labeled images, a temperature from the validation images",
)
REVEALED = Cost(
    row=None,
    text="M + N^b + N_(b-1)",
    forward=lambda s: s.validation + s.unlabeled + s.labeled_before,
    why="features of the open, of the labeled and of the validation images",
)
QUERIED = Cost(
    row=None,
    text="M + N^b",
    forward=lambda s: s.validation + s.unlabeled,
    why="features of the open and of the misclassified validation images",
)
EPIG = Cost(
    row=None,
    text="K (N^b + Q)",
    forward=lambda s: s.samples * (s.unlabeled + s.targets),
    why="each of the K passes counts as one, though what precedes the first dropout is computed once",
)

CLOSED_FORM = "; gradients that a model knows in closed form count as the passes that they stand for"

LABELING: Mapping[str, Cost] = MappingProxyType(
    {
        "none": Cost(row=PFK.row, text=NO_PASS.text, forward=NO_PASS.forward),
        "pool": Cost(
            row=None,
            text="N^b",
            forward=lambda s: s.unlabeled,
            why="each open image once more forward, since labels need the features of all",
        ),
        "pool and validation": Cost(
            row=None,
            text="M + N^b",
            forward=lambda s: s.validation + s.unlabeled,
            why="each open and validation image once more forward, since labels need other features, of all images",
        ),
        "clean": Cost(
            row=None,
            text="(D + 1) N^b",
            forward=lambda s: s.unlabeled,
            backward=lambda s: s.classes * s.unlabeled,
            why=f"each open image once more forward, and backward under each of the D classes{CLOSED_FORM}",
        ),
        "perturbed": Cost(
            row="PFK, MC labels",
            text="K (D + 1) (M + N^b)",
            forward=lambda s: s.samples * (s.validation + s.unlabeled),
            backward=lambda s: s.samples * s.classes * (s.validation + s.unlabeled),
            why=f"added are the K forward passes under the gradients and the descriptors' 2 (M + N^b){CLOSED_FORM}",
        ),
    }
)
"""What a pseudo-label adds to `PFK`, by the passes that it takes."""

WITHOUT_GRADIENT = "no gradient is taken of a description"

GUESSING: Mapping[str, Cost] = MappingProxyType(
    {
        "none": Cost(row=None, text=NO_PASS.text, forward=NO_PASS.forward, why=WITHOUT_GRADIENT),
        "pool": Cost(
            row=None,
            text=NO_PASS.text,
            forward=NO_PASS.forward,
            why=f"{WITHOUT_GRADIENT}, so labels are estimated from the same features",
        ),
        "pool and validation": LABELING["pool and validation"],
        "clean": Cost(
            row=None,
            text="M + (D + 1) N^b",
            forward=lambda s: s.unlabeled,
            backward=lambda s: s.validation + s.classes * s.unlabeled,
            why=f"each open image once more forward, and backward under each of the D classes, a validation image "
            f"under its own{CLOSED_FORM}",
        ),
        "perturbed": Cost(
            row=None,
            text="K (D + 1) N^b",
            forward=lambda s: s.samples * s.unlabeled,
            backward=lambda s: s.samples * s.classes * s.unlabeled,
            why=f"K views of each open image, backward under each of the D classes{CLOSED_FORM}",
        ),
    }
)
"""What a pseudo-label adds where no gradient is gathered: it is asked for the pool alone."""
