"""What each of two processes does that `test_processes.py` starts by torchrun; the first one writes what comes out."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from fkal.engine.batch_parts import BatchParts
from fkal.engine.metering import Meter
from fkal.engine.processes import Processes, current_processes
from fkal.engine.training import fit

sys.path.insert(0, str(Path(__file__).parent))
from test_processes import KINDS, LABELED, dropping_model, training

from conftest import CPU, make_images, make_model


def fitted(kind: str, processes: Processes) -> dict[str, torch.Tensor]:
    model = dropping_model() if kind == "dropping" else make_model(kind, seed=0)
    images = make_images(16, seed=3)
    draws, parts = torch.Generator().manual_seed(4), BatchParts(2, processes)
    epochs = fit(
        model,
        images,
        LABELED,
        images.labels[LABELED],
        config=training(kind),
        generator=draws,
        meter=Meter(CPU),
        parts=parts,
    )
    losses = torch.tensor(list(epochs), dtype=torch.float64)
    return {"losses": losses, **model.state_dict()}


def rows_in_order(processes: Processes, *, to_all: bool) -> torch.Tensor:
    """The numbers 0 to 4, a batch each, as this process has them in the end."""
    made = ({"rows": torch.tensor([float(batch)])} for batch in processes.own(range(5)))
    turns = processes.in_order(5, made, to_all=to_all, device=CPU)
    return torch.cat([torch.empty(0), *(part["rows"] for turn in turns for part in turn)])


def main(out: Path) -> None:
    dist.init_process_group("gloo")
    processes = current_processes()
    found = {f"{kind}.{name}": value for kind in KINDS for name, value in fitted(kind, processes).items()}
    of_first, of_all = (rows_in_order(processes, to_all=to_all) for to_all in (False, True))
    found |= {"of first": of_first, "of all": of_all, "sent": processes.from_first(of_first + 10 * processes.rank)}
    found["sum"] = processes.summed(torch.tensor([1, processes.rank]))
    save_file({name: value.contiguous() for name, value in found.items()}, out / f"{processes.rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
