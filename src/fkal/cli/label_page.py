"""Runs the labeling page until Ctrl-C, and says who can open it by which link."""

import errno
import webbrowser
from collections import Counter
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from fkal.cli.exit import SIGNAL_CODE, call_when_ended
from fkal.cli.terminal import echo, say
from fkal.errors import ConfigError, listed, shortened
from fkal.labeling.answers import label_rows
from fkal.labeling.batch import Batch, all_batches
from fkal.labeling.label_store import live_rows
from fkal.labeling.page_access import Invitations, is_loopback
from fkal.labeling.page_server import PageServer
from fkal.labeling.page_session import NEXT, LabelingSession

if TYPE_CHECKING:
    from fkal.labeling.project import Project

LONGEST_NAME = 100


@dataclass(frozen=True)
class PageOptions:
    """What `fkal label` was asked for; `guesses` is None where nothing was said."""

    batch: str | None
    annotators: tuple[str, ...]
    overlap: int
    host: str
    port: int
    guesses: bool | None
    new_classes: bool
    opens: bool


def serve(project: "Project", options: PageOptions) -> None:
    """Serves until Ctrl-C; raises ConfigError for options that cannot be."""
    annotators = _checked_annotators(options)
    batch = chosen_batch(project, options.batch)
    if batch is None:
        echo("nothing to label: no batch is open; fkal select -n 100 makes one")
        return
    session = LabelingSession(
        project,
        batch,
        annotators,
        overlap=options.overlap,
        shows_guesses=batch.request.kind != "audit" if options.guesses is None else options.guesses,
        allows_new_classes=options.new_classes,
    )
    server = _listening(session, options)
    call_when_ended(_terminated)
    try:
        _tell(server, session, options)
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    _conclude(project, batch)


def chosen_batch(project: "Project", name: str | None) -> Batch | None:
    """The batch of this name, else the first open one. Raises ConfigError for a name that no batch has."""
    batches = all_batches(project.rounds_path)
    if name is not None:
        found = [batch for batch in batches if name in (batch.folder.name, batch.request.batch)]
        if not found:
            names = listed([batch.folder.name for batch in batches]) or "none yet"
            raise ConfigError(f"--batch {shortened(name)}: there is no such batch; there are: {names}")
        if found[0].request.withdrawn:
            raise ConfigError(f"--batch {name}: it was withdrawn; name another one")
        return found[0]
    rows = live_rows(label_rows(project))
    waiting = [batch for batch in batches if batch.state(rows) == "open"]
    if len(waiting) > 1:
        say(f"open batches: {listed([batch.folder.name for batch in waiting])}; --batch chooses another one")
    return waiting[0] if waiting else None


def _checked_annotators(options: PageOptions) -> tuple[str, ...]:
    names = tuple(name.strip() for name in options.annotators)
    for name in names:
        if (len(names) > 1 and not name) or len(name) > LONGEST_NAME or not name.isprintable():
            raise ConfigError(f"--annotator {shortened(name)}: give a name of 1 to {LONGEST_NAME} letters")
    if len(set(names)) < len(names):
        raise ConfigError(f"--annotator: {listed(names)}: one of them is there twice; give each once")
    if options.overlap and len(names) < 2:
        raise ConfigError("--overlap: needs more than one --annotator; name everyone who labels")
    return names


def _listening(session: LabelingSession, options: PageOptions) -> PageServer:
    needs_links = not is_loopback(options.host) or len(session.annotators) > 1
    invitations = Invitations(session.annotators, used=lambda name: _told_used(server, name)) if needs_links else None
    try:
        server = PageServer(session, host=options.host, port=options.port, invitations=invitations, say=say)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            way_out = "another program listens there; give --port 0 for a free one"
        else:
            way_out = f"{error.strerror or error}; give an address of this machine"
        raise ConfigError(f"--host {options.host} --port {options.port}: {way_out}") from None
    return server


def _tell(server: PageServer, session: LabelingSession, options: PageOptions) -> None:
    batch, left = session.batch, len(session.batch.images) - session.view(session.annotators[0])["answered"]
    say(
        f"batch {batch.folder.name} of {session.project.name}: "
        f"{left:,} of {len(batch.images):,} images wait for a label"
    )
    if server.invitations is None:
        echo(server.address())
    else:
        for name in session.annotators:
            echo(f"{name or 'link'}: {server.address(name)}")
        say("each link opens once; then a new one is printed here")
    if options.opens and len(session.annotators) == 1 and not webbrowser.open(server.address(session.annotators[0])):
        say("no browser was found; open the address above in one")
    say("Ctrl-C ends it")


def _told_used(server: PageServer, name: str) -> None:
    echo(f"{name or 'somebody'} opened the link; the next one: {server.address(name)}")


def _conclude(project: "Project", batch: Batch) -> None:
    rows = live_rows(label_rows(project))
    given = Counter(row.status for rows_of in batch.answers(rows).values() for row in rows_of[-1:])
    missing = len(batch.missing(rows))
    parts = [f"{n:,} {status.replace('_', ' ')}" for status, n in given.items()]
    state = f"{missing:,} wait for a label" if missing else f"all have their answer; next: {NEXT[batch.request.kind]}"
    say(f"batch {batch.folder.name}: {', '.join([*parts, state])}")


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(SIGNAL_CODE + number)
