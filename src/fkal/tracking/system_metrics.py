"""What the machine does meanwhile: MLflow's own system metrics on the parent run, GPU figures per round."""

from typing import Any

import torch
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from fkal.tracking.gpu import GpuMeter

SYSTEM_SECONDS = 5  # MLflow's default of 10 logs nothing of short runs
ENERGY = "gpu/energy_wh"


class Meters:
    """Holds the threads that watch the machine between `start` and `stop`."""

    def __init__(self, device: torch.device, tracking_uri: str) -> None:
        self._device = device
        self._tracking_uri = tracking_uri
        self._gpu: GpuMeter | None = None
        self._system: Any = None

    def start(self, run_id: str) -> None:
        """Goes on after the last step that the run has."""
        self._gpu = GpuMeter.of(self._device)
        self._system = SystemMetricsMonitor(
            run_id,
            sampling_interval=SYSTEM_SECONDS,
            samples_before_logging=1,
            resume_logging=True,
            tracking_uri=self._tracking_uri,
        )
        self._system.start()

    def lap(self) -> dict[str, float]:
        """The GPU's figures since the last lap."""
        return self._gpu.lap() if self._gpu else {}

    def stop(self) -> None:
        if self._gpu:
            self._gpu.close()
        if self._system:
            self._system.finish()
        self._gpu = self._system = None
