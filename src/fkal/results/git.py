"""What git says of a folder, while no program that the folder's repository names is run.

A repository's configuration may name programs: for fsmonitor, hooks, clean filters, diffs, transports. A folder
that was downloaded is not to be trusted with that.
"""

import os
import subprocess
from pathlib import Path

SECONDS = 10
HARMLESS = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.sshCommand": "false",
    "core.alternateRefsCommand": "false",
    "status.submoduleSummary": "false",
    "protocol.allow": "never",
}
FILTER_PROGRAMS = {"clean": "", "smudge": "", "process": "", "required": "false"}
ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",  # the index is not written, so no hook hears of it
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone fetches nothing
    "GIT_TERMINAL_PROMPT": "0",
}


class GitFailed(RuntimeError):
    """There is no git, no repository, or no answer in time."""


def git_commit(directory: Path) -> str | None:
    """The commit that is checked out there, with `-dirty` if tracked files differ from it; None outside of git.

    A file that a filter converts counts as changed when git's index does not vouch for it, because the filter is
    not run. Changes within a submodule do not count, since git would ask the submodule's own configuration; another
    commit of it does.
    """
    try:
        commit = _git(directory, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
        in_work_tree = _git(directory, "rev-parse", "--is-inside-work-tree").strip() == "true"
        return f"{commit}-dirty" if in_work_tree and _is_dirty(directory) else commit
    except GitFailed:
        return None


def _is_dirty(directory: Path) -> bool:
    command = ["status", "--porcelain=v1", "--untracked-files=no", "--ignore-submodules=dirty", "--no-renames"]
    return bool(_git(directory, *command, settings=_without_filters(directory)))


def _without_filters(directory: Path) -> dict[str, str]:
    """Settings that take its programs away from every filter that the configuration names. Raises GitFailed."""
    listed = _git(directory, "config", "--list", "--null", "--name-only").split("\0")
    drivers = {key.rpartition(".")[0] for key in listed if key.startswith("filter.") and key.count(".") > 1}
    if any("=" in driver for driver in drivers):
        raise GitFailed("a setting on the command line ends its name at the first =, so this filter would be run")
    return {f"{driver}.{name}": value for driver in drivers for name, value in FILTER_PROGRAMS.items()}


def _git(directory: Path, *arguments: str, settings: dict[str, str] | None = None) -> str:
    """The output. Raises GitFailed.

    Settings go by the command line, which every version of git reads and no configuration overrules.
    """
    options = [word for key, value in {**HARMLESS, **(settings or {})}.items() for word in ("-c", f"{key}={value}")]
    command = ["git", "--no-pager", *options, "-C", str(directory), *arguments]
    try:
        answer = subprocess.run(
            command, capture_output=True, env={**os.environ, **ENVIRONMENT}, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise GitFailed(str(error)) from error
    return answer.stdout.decode(errors="surrogateescape")
