"""One loadable MLflow model: the task model with the last weights, as a traced graph (pt2), never as a pickle."""

import copy
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import mlflow.pytorch
import torch
from mlflow import MlflowClient
from mlflow.entities import Dataset, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.models import Model, infer_signature
from torch import Tensor, nn

from fkal.atomic_files import naming
from fkal.interrupts import raise_interrupt_in
from fkal.redaction import redacted

EXAMPLES = 2  # a batch of one would become the only batch size that the graph takes
REQUIREMENTS = ("torch", "torchvision", "numpy", "mlflow")
MODEL_NAME = "model"
SHOWN_WITH_MODEL = ("accuracy/", "summary/")


class NotTraceable(ValueError):
    """torch.export cannot make a graph of the model."""


def has_model(run: Run) -> bool:
    """A model is linked to its run when it is whole."""
    return bool(run.outputs and run.outputs.model_outputs)


def log_model(
    client: MlflowClient,
    run: Run,
    *,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    examples: Tensor,
    step: int,
    params: Mapping[str, str],
    dataset: Dataset,
) -> str:
    """The new model's id; `mlflow.pytorch.load_model(f"models:/{id}")` gives it back.

    `examples` is a normalised batch of two or more images on the CPU, `dataset` what the model was tested on.
    Raises NotTraceable.
    """
    logged = client.create_logged_model(
        run.info.experiment_id, name=model_name(run.info.run_name), source_run_id=run.info.run_id, params=dict(params)
    )
    try:
        with tempfile.TemporaryDirectory() as folder, naming(Path(folder)):
            path = Path(folder) / MODEL_NAME
            meta = Model(artifact_path=logged.artifact_location, run_id=run.info.run_id, model_id=logged.model_id)
            save_model(path, meta, model, weights, examples)
            client.log_model_artifacts(logged.model_id, str(path))
    except BaseException:
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    _link_metrics(client, run.info.run_id, logged.model_id, dataset)
    client.log_outputs(run.info.run_id, models=[LoggedModelOutput(logged.model_id, step=step)])
    return str(logged.model_id)


def _link_metrics(client: MlflowClient, run_id: str, model_id: str, dataset: Dataset) -> None:
    """Accuracies and summary once more under the model, or MLflow's page of models shows none.

    Each has the time that the run's has, by which the store knows it and enters it but once in the run.
    """
    last = client.get_run(run_id).to_proto().data.metrics
    shown = [metric for metric in last if metric.key.startswith(SHOWN_WITH_MODEL)]
    metrics = [
        Metric(m.key, m.value, m.timestamp, m.step, model_id, dataset.name, dataset.digest, run_id) for m in shown
    ]
    client.log_batch(run_id, metrics, synchronous=True)


def model_name(title: str) -> str:
    """What MLflow's page of models calls it; few characters are allowed."""
    return re.sub(r"[^\w+-]+", "-", title)


def save_model(path: Path, meta: Model, model: nn.Module, weights: Mapping[str, Tensor], examples: Tensor) -> None:
    """MLflow's folder of a model. Its requirements are named here; MLflow would run the model to find them."""
    still = copy.deepcopy(model).cpu().eval()
    still.load_state_dict(dict(weights))
    with torch.no_grad(), _silent():
        try:
            mlflow.pytorch.save_model(
                still,
                path,
                mlflow_model=meta,
                signature=infer_signature(examples.numpy(), still(examples).numpy()),
                input_example=examples.numpy(),
                pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
                serialization_format="pt2",
            )
        except OSError:
            raise
        except Exception as error:  # torch.export's have no common class
            raise_interrupt_in(error)
            reason = redacted((str(error).splitlines() or [type(error).__name__])[0])
            raise NotTraceable(f"{type(model).__name__}: {reason}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """torch.export speaks of its own deprecations, MLflow of a pip that an environment made by uv lacks."""
    loggers = [logging.getLogger(name) for name in ("torch", "mlflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
