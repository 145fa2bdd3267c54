"""Images a second that a frozen backbone embeds, by the precision of its passes, and how far its embeddings move.

    python benchmarks/embedding.py --device cuda --models resnet50,vit_b_16 --images 16384
    python benchmarks/embedding.py --models resnet18 --images 128 --variants none,bfloat16

The images are random pixels in memory, so nothing is decoded; weights are random, too. Each variant embeds a few
batches first, in which it is compiled where that is asked for. `moved` is how far an image is from its embedding
in the first variant, in parts of its length, as a mean.
"""

import argparse
import time
from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor, nn

from fkal.core.precision_names import Precision
from fkal.data.images import TensorImages
from fkal.engine.embedding import BATCHES, OTHER_BATCHES, Embedding
from fkal.engine.metering import Meter

VARIANTS: dict[str, tuple[Precision | None, bool]] = {
    "none": (None, False),
    "float32": ("float32", False),
    "tf32": ("tf32", False),
    "bfloat16": ("bfloat16", False),
    "float16": ("float16", False),
    "bfloat16+compile": ("bfloat16", True),
}
SIZE = 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet50", help="of torchvision")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variants", default="none,float32,bfloat16", help=f"of {', '.join(VARIANTS)}")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    images = made(arguments.images)
    batch = BATCHES.get(device.type, OTHER_BATCHES)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {arguments.images:,} images of {SIZE}x{SIZE}, batches of {batch}\n")
    print("| model | variant | images/s | moved |\n| --- | --- | --- | --- |")
    for model in arguments.models.split(","):
        first: Tensor | None = None
        for variant in arguments.variants.split(","):
            network = backbone(model)
            precision, compiles = VARIANTS[variant]
            embedding = Embedding(network, Meter(device), precision=precision, compiles=compiles)
            rows_of(embedding, images, torch.arange(4 * batch) % len(images))
            start = time.perf_counter()
            rows = rows_of(embedding, images, torch.arange(len(images)))
            rate = len(images) / (time.perf_counter() - start)
            first = rows if first is None else first
            moved = ((rows - first).norm(dim=1) / first.norm(dim=1)).mean()
            print(f"| {model} | {variant} | {rate:,.0f} | {moved:.1e} |", flush=True)


def made(n: int) -> TensorImages:
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=draws, dtype=torch.uint8)
    labels = torch.zeros(n, dtype=torch.long)
    return TensorImages(pixels, labels, ["none"], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def backbone(name: str) -> nn.Module:
    """Without its head."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name, weights=None)
    if hasattr(model, "heads"):
        model.heads = nn.Identity()
    else:
        model.fc = nn.Identity()
    return model.to(memory_format=torch.channels_last)


def rows_of(embedding: Embedding, images: TensorImages, indices: Tensor) -> Tensor:
    work: Iterator[object] = embedding.rows(images, indices, what="images")
    while True:
        try:
            next(work)
        except StopIteration as end:
            rows: Tensor = end.value
            return rows


if __name__ == "__main__":
    main()
