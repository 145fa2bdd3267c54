"""Options that exclude others. Imports nothing heavy: a command may be refused before it starts to work."""

import typer

from fkal.errors import ConfigError
from fkal.launch import launch

PLAN = frozenset({"plan", "out", "tracking_uri", "jobs", "executor", "ray_address", "gpus_per_run", "no_wait", "debug"})
"""What may stand beside --plan."""

PROJECT = frozenset({"project", "truth", "method", "seeds", "assignments", "as_json", "debug"})
"""What may stand beside --project, which has settings and a folder of its own."""

APPLY = frozenset({"apply", "dataset", "preset", "params", "tuned_dir", "dry_run", "as_json", "debug"})
"""What may stand beside --apply where nothing is searched."""


SCHEMA = frozenset({"schema", "debug"})
"""What may be given with --schema, which prints one file whatever is configured."""


NOT_UNDER_TORCHRUN = frozenset({"plan", "project", "jobs", "dry_run", "executor"})
"""Options of `fkal run` that have processes of their own, or need a single one."""


def refuse_under_torchrun(command: str | None) -> None:
    """Raises ConfigError for a command that several processes cannot do together."""
    if launch().processes > 1 and command != "run":
        _refuse(
            f"fkal {command or ''} takes one process, and torchrun started {launch().processes}; leave torchrun out"
        )


def refuse_beside_torchrun(context: typer.Context, jobs: int) -> None:
    """Raises ConfigError for options that would start processes, or that one process is enough for."""
    if launch().processes == 1:
        return
    given = [
        param.opts[0]
        for param in context.command.params
        if _is_given(context, param.name) and param.name in NOT_UNDER_TORCHRUN
    ]
    if jobs > 1 and "--jobs" not in given:
        given.append(f"FKAL_JOBS={jobs}")
    if given:
        _refuse(
            f"{', '.join(given)} cannot be used under torchrun, whose processes share one experiment at a time; "
            "leave one of them out"
        )


def refuse_beside_schema(context: typer.Context) -> None:
    """Raises ConfigError for options that --schema ignores."""
    others = _others(context, SCHEMA)
    if others:
        _refuse(f"--schema cannot be combined with {', '.join(others)}; leave one of them out")


def refuse_beside_plan(context: typer.Context) -> None:
    """Raises ConfigError for options that would say otherwise than the plan file, or go unheard."""
    others = _others(context, PLAN)
    if others:
        _refuse(f"--plan says what is done, and {', '.join(others)} nothing beside it: give one or the other")


def refuse_beside_project(context: typer.Context) -> None:
    """Raises ConfigError for options that a project has settings for, or that say where results are kept."""
    others = _others(context, PROJECT)
    if others:
        _refuse(
            f"--project has settings and a folder of its own, and {', '.join(others)} nothing beside it: set it in the "
            "project's params.yaml or by --set"
        )


def refuse_beside_apply(context: typer.Context) -> None:
    """Raises ConfigError for options of a search, which --apply alone does not make."""
    others = _others(context, APPLY)
    if others:
        _refuse(
            f"--apply alone uses the result that waits, and {', '.join(others)} nothing beside it: leave it out, or "
            "give --trials as well, to go on with the study and then use what it found"
        )


def _others(context: typer.Context, allowed: frozenset[str]) -> list[str]:
    given = [param for param in context.command.params if _is_given(context, param.name)]
    return [param.opts[0] for param in given if param.name not in allowed]


def _is_given(context: typer.Context, name: str | None) -> bool:
    source = None if name is None else context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse(message: str) -> None:
    raise ConfigError(message)
