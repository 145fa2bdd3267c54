"""One loadable MLflow model: the task model with the last weights, as a traced graph (pt2), never as a pickle."""

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import mlflow.pytorch
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.models import Model, infer_signature
from torch import Tensor, nn

from fkal.atomic_files import naming

EXAMPLES = 2  # a batch of one would become the only batch size that the graph takes
REQUIREMENTS = ("torch", "torchvision", "numpy", "mlflow")
MODEL_NAME = "model"


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
) -> str:
    """The new model's id; `mlflow.pytorch.load_model(f"models:/{id}")` gives it back.

    `examples` is a normalised batch of two or more images on the CPU. Raises NotTraceable.
    """
    logged = client.create_logged_model(
        run.info.experiment_id, name=MODEL_NAME, source_run_id=run.info.run_id, params=dict(params)
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
    client.log_outputs(run.info.run_id, models=[LoggedModelOutput(logged.model_id, step=step)])
    return str(logged.model_id)


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
            reason = (str(error).splitlines() or [type(error).__name__])[0]
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
