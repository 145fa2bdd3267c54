"""Passwords and tokens are taken out of every text that reaches people or files.

Addresses carry them (`postgresql://me:SECRET@host/db`), and so do the messages of MLflow, SQLAlchemy,
Optuna and database drivers, which quote addresses or single passwords.
"""

import logging
import os
import re
import traceback
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

MASK = "***"
SECRET_VARIABLES = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
    "DATABRICKS_TOKEN",
    "LABEL_STUDIO_API_KEY",
)
ADDRESS_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI")
SHORTEST = 4
"""A shorter password is masked inside addresses alone: elsewhere it would mask parts of the language."""

_SCHEME = r"[A-Za-z][\w+.-]*://"
_KEY = r"[\w.-]*(?:password|passwd|pwd|passphrase|token|secret|api_?key|credential|signature|odbc_connect)[\w.-]*"
_PATTERNS = (
    (re.compile(rf"({_SCHEME}[^\s:/?#@]*):\S*@"), rf"\1:{MASK}@"),
    (re.compile(r"(https?://)(?!\*\*\*@)[^\s:/?#@]+@"), rf"\1{MASK}@"),  # a token in the place of the user's name
    (re.compile(rf"(?i)((?<![\w.-]){_KEY}\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&;,'\")]+)"), rf"\1{MASK}"),
    (re.compile(rf"(?i)((['\"]){_KEY}\2\s*:\s*)('[^']*'|\"[^\"]*\")"), rf"\1'{MASK}'"),
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic)\s+)?[\w+/.=~-]+"), rf"\1{MASK}"),
)
_SECRET_KEY = re.compile(rf"(?i){_KEY}")

_known: set[str] = set()


def remember_address(address: str) -> None:
    """From now on `redacted` masks the secrets of this address wherever a message repeats them."""
    _known.update(_secrets_of(address))


def remember_secret(secret: str) -> None:
    """From now on `redacted` masks this password or token."""
    if len(secret) >= SHORTEST:
        _known.add(secret)


def redacted(text: str) -> str:
    """The text without the secrets of its addresses, of remembered addresses and of the environment."""
    for secret in sorted(_known | _secrets_of_environment(), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def has_secret(address: str) -> bool:
    """Whether the address must not be shown as it is."""
    return redacted(address) != address


def without_login(address: str) -> str:
    """A server's address as a browser needs it: it asks for the user and the password itself."""
    parts = urlsplit(address)
    return redacted(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def redact_log(name: str) -> None:
    """The handlers of this logger, and of the loggers below it, write no secrets from now on."""
    for handler in logging.getLogger(name).handlers:
        if _redact_record not in handler.filters:
            handler.addFilter(_redact_record)


def _redact_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = redacted(record.getMessage()), ()
    if record.exc_info:
        record.exc_text = redacted("".join(traceback.format_exception(*record.exc_info))).rstrip()
    return True


def _secrets_of_environment() -> set[str]:
    secrets = {os.environ.get(name, "") for name in SECRET_VARIABLES}
    for name in ADDRESS_VARIABLES:
        secrets |= _secrets_of(os.environ.get(name, ""))
    return {secret for secret in secrets if len(secret) >= SHORTEST}


def _secrets_of(address: str) -> set[str]:
    """As they are written and as they are meant; not those that are also names in the address, say `mlflow`."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return set()
    place, _, query = rest.partition("?")
    login, at, host = place.rpartition("@")
    user, _, password = login.partition(":")
    found = {password}
    if scheme.startswith("http") and at and not password:
        found, user = {user}, ""
    found |= {value for key, value in parse_qsl(query) if _SECRET_KEY.fullmatch(key)}
    found |= {pair.partition("=")[2] for pair in query.split("&") if _SECRET_KEY.fullmatch(pair.partition("=")[0])}
    meant = {decode(secret) for secret in found for decode in (unquote, unquote_plus)}
    public = {scheme, user, *re.split(r"[/:,]", host)}
    return {secret for secret in found | meant if len(secret) >= SHORTEST} - public
