"""`--executor ray`: each experiment, or each file of descriptors, is a task of a Ray cluster."""

import logging
import os
import pickle
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from fkal.config.schema import Config, ConfigError
from fkal.core.pool_parts import MapParts, one_by_one
from fkal.engine.embedding import KEPT_ROWS
from fkal.engine.progress import Progress
from fkal.errors import EndsAll, UserError, first_line
from fkal.experiment.device import device_named
from fkal.experiment.experiment import Experiment, Part, prepare
from fkal.experiment.names import shown_name
from fkal.notify import PLAIN, Display, ManyShown, Notify
from fkal.results.outcome import Outcome
from fkal.runner import worker
from fkal.runner.executors import POLL_SECONDS, listener
from fkal.runner.plan import PlannedRun, RayCluster
from fkal.runner.ray_parts import RayParts
from fkal.runner.ray_tasks import (
    AGAIN,
    RETRIES,
    Need,
    NodeAffinitySchedulingStrategy,
    Queue,
    RayError,
    canonicalize_bootstrap_address,
    ray,
    remote,
    result_of,
)
from fkal.runner.worker import GRACE_SECONDS, Report
from fkal.tracking.store import tracking_uri

REACH_SECONDS = 5.0
ASK_AGAIN_SECONDS = 1.0
MARKER = ".cluster-"
"""How the name of a file in --out begins by which a machine sees that it has the same folder."""


class ClusterError(UserError, ValueError):
    """The Ray cluster does not answer."""


class ClusterLost(EndsAll, ValueError):
    """The Ray cluster answered, and is gone now."""


class _Site(NamedTuple):
    """Where a task works. Paths are absolute; those of settings are as they were typed, below `folder`."""

    threads: int
    folder: Path
    out: Path
    marker: str


class _Task(NamedTuple):
    """An experiment, as a machine of the cluster is sent it."""

    site: _Site
    place: int
    need: Need
    config: Config
    fingerprint: str | None
    tracking: str
    wait: bool


class _ShardTask(NamedTuple):
    """A file of descriptors, or of embeddings of the images of a part of the data."""

    site: _Site
    config: Config
    descriptors: Path | None = None
    part: Part = "train"
    indices: tuple[int, ...] = ()
    number: int = 0


def on_ray(
    planned: Mapping[int, PlannedRun],
    *,
    cluster: RayCluster,
    jobs: int,
    out: Path,
    tracking: str | None,
    wait: bool = True,
    display: Display = PLAIN,
) -> Generator[tuple[int, Outcome | Exception], None, None]:
    """The experiments as they end: its key in `planned`, and its outcome or what it failed of.

    They are begun in the order of `planned`. A task whose worker or machine is lost is tried again, and goes on from
    the rounds that are finished. When this generator ends, it asks its tasks to end, and then ends them.

    Raises:
        ConfigError: An experiment cannot have the GPU that is asked for.
        ClusterError: The cluster does not answer.
        ClusterLost: It answered, and is gone now.
    """
    needs = {place: _need(plan.config, cluster) for place, plan in planned.items()}
    with (
        display.many(len(planned)) as bars,
        _site(out) as site,
        _connected(cluster, _cpus(list(needs.values()), jobs)),
    ):
        _notify_of_waiting(list(needs.values()), display.notify)
        reports = _reports()
        tell = _listener(bars, display.notify)
        tasks: dict[ray.ObjectRef[bytes], int] = {}
        try:
            for place, plan in planned.items():
                task = _Task(
                    site=site,
                    place=place,
                    need=needs[place],
                    config=plan.config,
                    fingerprint=plan.fingerprint,
                    tracking=tracking_uri(tracking, Path.cwd()),
                    wait=wait,
                )
                work = remote(_work, needs[place], shown_name(plan.config))
                tasks[work.remote(task, reports)] = place
            while tasks:
                done, _ = ray.wait(list(tasks), timeout=POLL_SECONDS)
                _drain(reports, tell)
                for each in done:
                    bars.ended()
                    yield tasks.pop(each), result_of(each)
        except RayError as lost:
            raise ClusterLost(f"the Ray cluster is gone ({first_line(lost)}); {AGAIN}") from lost
        finally:
            _cancel(list(tasks))


def _need(config: Config, cluster: RayCluster) -> Need:
    """Ray shares out its CPUs by the threads of experiments. One that computes on a GPU keeps one busy."""
    device = device_named(config.device)
    on_gpu = device.type == "cuda"
    if cluster.gpus_per_run and not on_gpu:
        raise ConfigError(
            f"--gpus-per-run {cluster.gpus_per_run:g}: {shown_name(config)} computes on {device.type}, by device = "
            f"{config.device!r}; give the command on a machine that has a GPU, or leave the option out"
        )
    if device.index:
        raise ConfigError(f"device = {config.device!r}: Ray chooses the GPU of each experiment; set device=cuda")
    gpus = cluster.gpus_per_run if cluster.gpus_per_run is not None else float(on_gpu)
    return Need(config.threads or (1 if on_gpu else torch.get_num_threads()), gpus)


def _cpus(needs: Sequence[Need], jobs: int) -> int:
    """Of a cluster that is started here: enough for so many jobs, or what the machine has."""
    most = max(need.cpus for need in needs)
    return jobs * most if jobs > 1 else max(most, os.cpu_count() or 1)


@contextmanager
def _connected(cluster: RayCluster, cpus: int) -> Iterator[None]:
    """Ray within the block; its statistics and lines go nowhere, those too that it writes to standard output."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), _signals_kept() as keep:
        try:
            _connect(cluster, cpus)
            keep()
            yield
        finally:
            ray.shutdown()


def _connect(cluster: RayCluster, cpus: int) -> None:
    if cluster.address is None:
        try:
            limits = {"task_oom_retries": RETRIES}
            ray.init(
                "local",
                num_cpus=cpus,
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
                _system_config=limits,
            )
        except NO_START as error:
            raise ClusterError(f"Ray does not start on this machine: {first_line(error)}") from error
        return
    _refuse_silent(cluster.address)
    try:
        ray.init(cluster.address, configure_logging=False, log_to_driver=False)
    except NO_START as error:
        raise _silent(cluster.address, f"{first_line(error)}; {TOKEN}") from error


NO_START = (ConnectionError, RuntimeError, OSError, ValueError, RayError)


TOKEN = "where the cluster has a token, set RAY_AUTH_MODE=token"


def _silent(address: str, reason: str) -> ClusterError:
    return ClusterError(
        f"--ray-address {address}: no Ray cluster answers ({reason}); start one by `ray start --head`, or leave the "
        "option out to run on this machine"
    )


def _refuse_silent(address: str) -> None:
    """Raises ClusterError where nothing listens; Ray itself would try for minutes."""
    found = _recorded() if address == "auto" else address
    host, _, port = found.rpartition(":")
    where = f"{found}: " if address == "auto" else ""
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except UnicodeError as error:  # of a name that no machine can have
        raise _silent(address, f"{where}{host} is no name of a machine") from error
    except OSError as error:
        raise _silent(address, f"{where}{error.strerror or 'no answer in time'}") from error


def _recorded() -> str:
    """Where `auto` leads: RAY_ADDRESS, else the cluster that was last started on this machine, be it gone or not."""
    try:
        found = canonicalize_bootstrap_address("auto")
    except (ConnectionError, ValueError) as error:
        raise _silent("auto", "no Ray runs on this machine") from error
    if found is None:  # RAY_ADDRESS=local
        raise _silent("auto", "RAY_ADDRESS names no cluster")
    return str(found)


@contextmanager
def _signals_kept() -> Iterator[Callable[[], None]]:
    """SIGTERM and SIGHUP as before: Ray takes SIGTERM for itself, and each of its calls makes a plain interrupt of
    whatever a handler raises. What is yielded is called once Ray has started."""
    raised: list[BaseException] = []
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():  # only there signals have handlers
        before = {}

    def noted(number: int, frame: FrameType | None) -> None:
        try:
            before[number](number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    def keep() -> None:
        for number in before:
            signal.signal(number, noted)

    try:
        yield keep
    except KeyboardInterrupt as interrupt:
        raise (raised[0] if raised else interrupt) from None
    except SystemExit:  # of Ray's own handler, while it started
        if signal.SIGTERM in before:
            before[signal.SIGTERM](signal.SIGTERM, None)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _notify_of_waiting(needs: Sequence[Need], notify: Notify) -> None:
    """A cluster may grow, so that what fits nowhere now is no error."""
    offered = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for need in sorted({need for need in needs if not any(_fits(need, each) for each in offered)}):
        gpus = f" and {need.gpus:g} GPUs" if need.gpus else ""
        notify(
            f"no machine of the cluster has {need.cpus} CPUs{gpus} for an experiment; it waits for one that has "
            "(--set threads=N asks for N CPUs)"
        )


def _fits(need: Need, offered: Mapping[str, float]) -> bool:
    return need.cpus <= offered.get("CPU", 0) and need.gpus <= offered.get("GPU", 0)


def _reports() -> Queue:
    """On this machine: reports are of no use without it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def _listener(bars: ManyShown, notify: Notify) -> Any:
    """A task that is tried again begins twice; what was shown of its first try is taken away."""
    tell, open_places = listener(bars, notify), set[int]()

    def heard(report: Report) -> None:
        if report.what == "began" and report.worker in open_places:
            bars.left(report.worker)
            notify(f"{report.values[0]}: its worker was lost; another one goes on")
        if report.what == "began":
            open_places.add(report.worker)
        if report.what == "left":
            open_places.discard(report.worker)
        tell(report)

    return heard


def _drain(reports: Queue, tell: Any) -> None:
    n = reports.size()
    for report in reports.get_nowait_batch(n) if n else ():
        tell(report)


def _work(task: _Task, reports: Queue) -> bytes:
    """In a worker of the cluster: the pickled Outcome, or what it failed of."""
    try:
        worker.report_to(reports, task.place)
        _enter(task.site)
        return worker.work(
            task.config,
            task.site.out,
            task.tracking,
            task.wait,
            fingerprint=task.fingerprint,
            over_parts=_over_parts(task),
        )
    except Exception as error:
        return pickle.dumps(error)


def _over_parts(task: _Task) -> MapParts:
    """Ray gives the CPUs of a task that waits to others, but not its GPU: with a GPU it works on its parts itself."""
    return one_by_one if task.need.gpus else RayParts(shown_name(task.config), task.need.cpus)


@contextmanager
def _site(out: Path) -> Iterator[_Site]:
    """That of this process; a file in `out` shows to others that they have the same folder."""
    with tempfile.NamedTemporaryFile(dir=out, prefix=MARKER) as marker:
        yield _Site(torch.get_num_threads(), Path.cwd(), out.absolute(), Path(marker.name).name)


def _enter(site: _Site) -> None:
    """Raises ValueError where the folders of the command are not those of this machine."""
    host = socket.gethostname()
    try:
        os.chdir(site.folder)
    except OSError as error:
        raise ValueError(
            f"{site.folder} is not on {host} ({error.strerror}); give the command in a folder that all machines share"
        ) from error
    if not (site.out / site.marker).exists():
        raise ValueError(f"--out {site.out} is another folder on {host}; name one that all machines share")
    worker.take_threads(site.threads)


def _cancel(tasks: "Sequence[ray.ObjectRef[bytes]]") -> None:
    """One at work closes its run and its state first; after the time of grace none is left.

    Each is asked again and again, since Ray promises for no single time that it arrives.
    """
    if not tasks or not ray.is_initialized():
        return
    with suppress(RayError):  # of a cluster that is gone, and its tasks with it
        left, last = list(tasks), time.monotonic() + GRACE_SECONDS
        while left and time.monotonic() < last:
            for task in left:
                ray.cancel(task)
            _, left = ray.wait(left, num_returns=len(left), timeout=ASK_AGAIN_SECONDS)
        for task in left:
            ray.cancel(task, force=True)


class RayShards:
    """Makes what `fkal embed` keeps on a cluster, a task for each file. Ray starts when the first one is missing."""

    def __init__(self, cluster: RayCluster, configs: Sequence[Config], out: Path) -> None:
        self._cluster, self._out = cluster, out
        self._needs = {config.digest: _need(config, cluster) for config in configs}
        self._held = ExitStack()
        self._there: _Site | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(kind, error, trace)

    def of(self, experiment: Experiment) -> "_ShardsOf":
        """An `Elsewhere` of this experiment."""
        return _ShardsOf(self, experiment)

    @property
    def site(self) -> _Site:
        if self._there is None:
            self._there = self._held.enter_context(_site(self._out))
            self._held.enter_context(_connected(self._cluster, _cpus(list(self._needs.values()), 1)))
        return self._there

    def need(self, config: Config) -> Need:
        return self._needs[config.digest]


class _ShardsOf(NamedTuple):
    shards: RayShards
    experiment: Experiment

    def descriptors(self, files: Sequence[Path]) -> Generator[Progress, None, None]:
        site, config = self.shards.site, self.experiment.config
        yield from self._made([_ShardTask(site, config, descriptors=file.absolute()) for file in files], "descriptors")

    def embeddings(self, part: Part, indices: Tensor, first: int) -> Generator[Progress, None, None]:
        site, config = self.shards.site, self.experiment.config
        parts = enumerate(indices.split(KEPT_ROWS), start=first)
        tasks = [
            _ShardTask(site, config, part=part, indices=tuple(rows.tolist()), number=number) for number, rows in parts
        ]
        yield from self._made(tasks, "embeddings")

    def _made(self, tasks: Sequence[_ShardTask], what: str) -> Generator[Progress, None, None]:
        need, name = self.shards.need(self.experiment.config), self.experiment.shown_name
        _notify_of_waiting([need], self.experiment.say)
        pending = [remote(_make_shard, need, f"{name} {what}").remote(task) for task in tasks]
        try:
            while pending:
                done, pending = ray.wait(pending, timeout=POLL_SECONDS)
                for each in done:
                    lines = result_of(each)
                    if isinstance(lines, Exception):
                        raise lines
                    for line in lines:
                        self.experiment.say(line)
                    yield Progress(f"{what} on the cluster", len(tasks) - len(pending), len(tasks), "shards")
        finally:
            _cancel(pending)


def _make_shard(task: _ShardTask) -> bytes:
    """In a worker of the cluster: what was said while it was made, pickled, or what it failed of."""
    lines: list[str] = []
    try:
        _enter(task.site)
        experiment = prepare(task.config, task.site.out, lines.append)
        lines.clear()  # of its data, which the driver has said
        if task.descriptors is None:
            steps = experiment.embedding_shard(task.part, torch.tensor(task.indices), task.number)
        else:
            steps = experiment.descriptor_shard(task.descriptors)
        for _ in steps:
            pass
        return pickle.dumps(lines)
    except Exception as error:
        return pickle.dumps(worker.portable(error))
