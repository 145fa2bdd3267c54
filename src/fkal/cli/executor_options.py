"""Where experiments run: the options of `--executor`. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from fkal.errors import ConfigError, did_you_mean, shortened

if TYPE_CHECKING:
    from fkal.runner.plan import RayCluster

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class ExecutorOptions:
    """On this machine, or as tasks of a Ray cluster."""

    executor: Annotated[
        str, typer.Option(metavar="local|ray", help="Where work is done: processes of this machine, or Ray tasks.")
    ] = "local"
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --executor ray: a running cluster, or auto for this machine's. [default: Ray starts here]",
        ),
    ] = None
    gpus_per_run: Annotated[
        float | None,
        typer.Option(metavar="N", help="With --executor ray: GPUs of each task, say 0.25. [default: 1 on CUDA]"),
    ] = None

    def cluster(self) -> RayCluster | None:
        """The Ray cluster; None for this machine's own processes.

        Raises ConfigError for an executor that there is none of, and for options of another one.
        """
        from fkal.runner.plan import RayCluster

        if self.executor not in EXECUTORS:
            raise ConfigError(
                f"--executor {shortened(self.executor)}: {did_you_mean(self.executor, EXECUTORS)}give local or ray"
            )
        if self.executor == "ray":
            return RayCluster(self.ray_address, self.gpus_per_run)
        for option, value in (("--ray-address", self.ray_address), ("--gpus-per-run", self.gpus_per_run)):
            if value is not None:
                raise ConfigError(f"{option} {value} is for --executor ray; add that, or leave it out")
        return None
