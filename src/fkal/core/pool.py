"""The pool: which of its images are labeled. Labeling returns a new pool."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Pool:
    """Dataset indices of the pool's images, and which of them are labeled. Tensors on the CPU."""

    indices: Int[Tensor, " n"]
    is_labeled: Bool[Tensor, " n"]

    @staticmethod
    def unlabeled(indices: Int[Tensor, " n"]) -> "Pool":
        return Pool(indices, torch.zeros(len(indices), dtype=torch.bool))

    @property
    def open(self) -> Int[Tensor, " u"]:
        """Dataset indices of the unlabeled images; a position counts within these."""
        return self.indices[~self.is_labeled]

    @property
    def labeled(self) -> Int[Tensor, " l"]:
        """Dataset indices of the labeled images."""
        return self.indices[self.is_labeled]

    def label(self, indices: Int[Tensor, " p"]) -> "Pool":
        """The pool after the images with these dataset indices were labeled.

        Raises ValueError if one is not in the pool, is labeled already, or stands twice.
        """
        chosen = torch.isin(self.indices, indices)
        if len(indices.unique()) != len(indices):
            raise ValueError(f"{len(indices)} indices with repeats; name each image once")
        if int(chosen.sum()) != len(indices):
            strangers = indices[~torch.isin(indices, self.indices)].tolist()
            raise ValueError(f"not in the pool: {strangers[:10]}; pick only from pool.open")
        if bool((chosen & self.is_labeled).any()):
            again = self.indices[chosen & self.is_labeled].tolist()
            raise ValueError(f"already labeled: {again[:10]}; pick only from pool.open")
        return replace(self, is_labeled=self.is_labeled | chosen)
