"""What `fkal tune --apply` prints. Imports neither torch nor Optuna."""

from fkal.cli.terminal import echo, echo_json
from fkal.tuning.apply import Applied, overruled


def print_applied(applied: Applied, *, as_json: bool) -> None:
    """The file, its values, and which of them a method's name sets instead."""
    if as_json:
        echo_json({"tuned": str(applied.path), "applied": applied.is_applied, "values": applied.values})
        return
    used = "applied" if applied.is_new else "was applied before"
    state = used if applied.is_applied else "would be applied"
    echo(f"{applied.path}: {state}; its values for experiments of this dataset (`fkal config` shows what results)")
    for key, value in applied.values.items():
        but = overruled(key)
        echo(f"  {key} = {value}" + (f", {but}" if but else ""))
