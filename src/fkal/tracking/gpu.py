"""What a GPU did during a round: utilisation and energy, by NVML."""

import threading
from typing import Any, Self

import torch

INTERVAL = 0.5  # seconds between looks at the utilisation
MILLIJOULE_PER_WH = 3.6e6


class GpuMeter:
    """Holds a thread that looks at one GPU; a figure that the device does not support is left out."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._looks: list[float] = []
        self._energy = self._energy_mj()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fkal-gpu", daemon=True)

    @classmethod
    def of(cls, device: torch.device) -> Self | None:
        """None for a device that NVML does not know."""
        if device.type != "cuda":
            return None
        import pynvml

        try:
            pynvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
        except (pynvml.NVMLError, AttributeError):  # ROCm devices have no uuid
            return None
        meter = cls(handle)
        meter._thread.start()
        return meter

    def lap(self) -> dict[str, float]:
        """The figures since the last lap, by metric name."""
        with self._lock:
            looks, self._looks = self._looks, []
        before, self._energy = self._energy, self._energy_mj()
        figures = {}
        if looks:
            figures["gpu/util_mean_pct"] = sum(looks) / len(looks)
        if before is not None and self._energy is not None:
            figures["gpu/energy_wh"] = (self._energy - before) / MILLIJOULE_PER_WH
        return figures

    def close(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        import pynvml

        while not self._end.wait(INTERVAL):
            try:
                used = pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu
            except pynvml.NVMLError:
                return
            with self._lock:
                self._looks.append(float(used))

    def _energy_mj(self) -> float | None:
        import pynvml

        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except pynvml.NVMLError:
            return None
