"""Addresses of images: paths, and URLs that fsspec opens. Imports no torch."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fkal.data.regular_files import FileTooLarge, read_regular
from fkal.errors import UserError
from fkal.redaction import redacted

LARGEST_FILE = 2**30
"""Bytes of one image file; the most pixels that are decoded take less."""
TOO_MANY_REQUESTS = 429
PACKAGES = {"s3": "s3fs (pip install 'fkal[s3]')", "s3a": "s3fs (pip install 'fkal[s3]')"}


class Unreachable(UserError, RuntimeError):
    """A store of files does not answer, or fkal may not read it; the file itself may be there."""


def is_url(place: str) -> bool:
    """`s3://bucket/key` and the like; a Windows drive is none."""
    scheme, found, _ = place.partition("://")
    return bool(found) and len(scheme) > 1 and scheme.replace("+", "").replace("-", "").isalnum()


def joined(base: str, name: str) -> str:
    """A name below a base; an absolute path or a URL is whole already."""
    if is_url(name):
        return name
    return f"{base.rstrip('/')}/{name}" if is_url(base) else os.path.join(base, name)  # noqa: PTH118  a million times


def bytes_at(address: str, *, limit: int = LARGEST_FILE) -> bytes:
    """The whole file. Raises OSError that is about this file, Unreachable where no file of the store can be read."""
    if not is_url(address):
        return read_regular(Path(address), limit=limit)
    with _answering(address):
        from fsspec.core import url_to_fs

        store, name = url_to_fs(address)
        data: bytes = store.cat_file(name)  # its `open` takes a connection that fails for a file that is missing
    if len(data) > limit:
        raise FileTooLarge(errno.EFBIG, f"more than {limit:,} bytes")
    return data


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """What a store says of one file stays an OSError; anything else would be said of every file."""
    scheme = address.partition("://")[0]
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, "there is no such file") from error
    except PermissionError as error:
        raise PermissionError(errno.EACCES, "it may not be read") from error
    except (ImportError, ValueError) as error:
        package = PACKAGES.get(scheme, f"fsspec's package for {scheme}://")
        raise Unreachable(f"{redacted(address)}: reading it needs {package}: {_first(error)}") from error
    except Exception as error:  # each store raises exceptions of its own
        status = getattr(error, "status", None)
        if isinstance(status, int) and 400 <= status < 500 and status != TOO_MANY_REQUESTS:
            raise PermissionError(errno.EACCES, f"the server answers with status {status}") from error
        raise Unreachable(
            f"{redacted(address)}: {scheme}:// does not answer, or may not be read ({type(error).__name__}: "
            f"{_first(error)}); see to network and credentials, and give the same command again: it goes on"
        ) from error


def _first(error: Exception) -> str:
    return redacted((str(error).splitlines() or [type(error).__name__])[0][:200])
