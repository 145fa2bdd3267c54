"""Who may use the labeling page: names by which it is called, and one link per annotator that works once."""

import hmac
import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import psutil

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(host: str) -> frozenset[str]:
    """Names that a request may call this server by. Other names are those of pages that want to reach it unseen."""
    if is_loopback(host):
        return LOCAL_NAMES | {host}
    own = {socket.gethostname(), socket.getfqdn(), host}
    if host in ANY_ADDRESS:
        own |= {address.address.partition("%")[0] for each in psutil.net_if_addrs().values() for address in each}
    return frozenset(name.lower() for name in LOCAL_NAMES | own)


def is_allowed_host(header: str | None, names: frozenset[str]) -> bool:
    """Whether a Host header names this server; any port, since it may be forwarded."""
    try:
        return header is not None and (urlsplit(f"//{header}").hostname or "") in names
    except ValueError:
        return False


def is_same_origin(origin: str | None, host: str | None) -> bool:
    """Whether a request comes from a page of this server. Programs send no Origin; browsers do when they post."""
    return origin is None or (host is not None and origin.lower() == f"http://{host.lower()}")


class Invitations:
    """A link per annotator. Who opens it gets a session; the link is then used up and another one is made."""

    def __init__(self, annotators: Sequence[str], used: Callable[[str], None]) -> None:
        self._used = used
        self._lock = threading.Lock()
        self._tokens = {name: secrets.token_urlsafe(24) for name in annotators}
        self._sessions: dict[str, str] = {}

    def token(self, annotator: str) -> str:
        """Of the link that is not used yet."""
        return self._tokens[annotator]

    def session(self, token: str) -> str | None:
        """The session that a token opens; None for one that is wrong or used up."""
        with self._lock:
            for annotator, known in self._tokens.items():
                if hmac.compare_digest(known.encode(), token.encode(errors="replace")):
                    self._tokens[annotator] = secrets.token_urlsafe(24)
                    session = secrets.token_urlsafe(24)
                    self._sessions[session] = annotator
                    break
            else:
                return None
        self._used(annotator)
        return session

    def annotator(self, session: str) -> str | None:
        """Whose session it is."""
        return self._sessions.get(session)
