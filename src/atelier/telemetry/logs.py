"""Logs: one line an event, structured, plain or JSON, on the console and in a file."""

import contextlib
import logging
import logging.handlers
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import structlog

from atelier.errors import ConfigurationError
from atelier.lock import try_lock

QUIET = ("aiosqlite", "alembic", "asyncio", "aiohttp.access", "uvicorn.access", "multipart", "PIL")
FILE_BYTES, OLD_FILES = 5_000_000, 3
MOST_PROCESSES = 64  # that write logs into one folder

Format = Literal["plain", "json"]

# One list for good: loggers that were used before keep the list that they have seen.
_processors: list[structlog.typing.Processor] = []

_HIDDEN = "***"
# Whatever library writes them: passwords in addresses, signatures, tokens, pictures in base64.
_SECRET = re.compile(
    r"(?P<before>://[^\s/:@]*:)[^\s/@]+(?=@)"
    r"|(?P<query>[?&](?:X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|X-Goog-Signature"
    r"|Signature|sig|token|key|api_key|access_token)=)[^&\s\"']+"
    r"|(?P<header>(?:Bearer|Basic) )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<data>data:[a-z]+/[a-z0-9.+-]+;base64,)[A-Za-z0-9+/=]{32,}",
    re.IGNORECASE,
)


def configure_logging(
    level: str = "INFO",
    log_format: Format = "plain",
    *,
    stream: object = None,
    secrets: Collection[str] = (),
) -> None:
    """Send our own and the libraries' log lines to ``stream`` (default: stderr) in one form.

    No line holds one of ``secrets`` (of those with 8 characters and more).
    """
    target = stream or sys.stderr
    _processors[:] = [
        structlog.stdlib.filter_by_level,
        *_before(log_format),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ]
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)  # type: ignore[arg-type]
    colors = bool(getattr(target, "isatty", lambda: False)())
    handler.setFormatter(_formatter(log_format, secrets, colors=colors))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING if level != "DEBUG" else logging.DEBUG)


@contextmanager
def log_files(
    folder: Path, name: str, log_format: Format = "plain", *, secrets: Collection[str] = ()
) -> Iterator[None]:
    """Until the context is left, log lines go to ``NAME.log`` in ``folder`` too.

    UTF-8, 5 MB a file, 3 older ones kept; a further process that would write the same file gets
    ``NAME-2.log``. Raises ConfigurationError where the folder can't be written to.
    """
    with _own_file(folder, name) as path:
        handler = _LogFile(path)
        handler.setFormatter(_formatter(log_format, secrets, colors=False))
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()


def _before(log_format: Format) -> list[structlog.typing.Processor]:
    """What is done to a line before it is written, wherever it goes."""
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if log_format == "json":
        before.append(structlog.processors.format_exc_info)
    return before


def _formatter(
    log_format: Format, secrets: Collection[str], *, colors: bool
) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_before(log_format),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _renderer(log_format, colors=colors),
            _hider(secrets),
        ],
    )


def _renderer(log_format: Format, *, colors: bool) -> structlog.typing.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )


def _hider(secrets: Collection[str]) -> structlog.typing.Processor:
    """The last processor, on whole lines: a stack trace can hold anything."""
    known = sorted((secret for secret in secrets if len(secret) >= 8), key=len, reverse=True)

    def hide(logger: Any, method: str, line: Any) -> Any:
        for secret in known:
            line = line.replace(secret, _HIDDEN)
        return _SECRET.sub(lambda found: f"{found[found.lastgroup or 0]}{_HIDDEN}", line)

    return hide


class _LogFile(logging.handlers.RotatingFileHandler):
    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8")
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that a line could not be written, e.g. to a full disk; go on without."""
        if not self._told:
            self._told = True
            print(f"atelier: can't write {self.baseFilename}: {sys.exc_info()[1]}", file=sys.stderr)


@contextmanager
def _own_file(folder: Path, name: str) -> Iterator[Path]:
    """A path for this process alone, as two can't turn over one file."""
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, MOST_PROCESSES + 1):
                path = folder / f"{name}{f'-{number}' if number > 1 else ''}.log"
                lock = path.with_suffix(".lock").open("a+b")
                if try_lock(lock):
                    held.enter_context(lock)
                    path.open("ab").close()
                    break
                lock.close()
            else:
                raise ConfigurationError(
                    f"{MOST_PROCESSES} processes already write logs into {folder.absolute()}.",
                    hint="Give further ones an ATELIER_LOG_DIR of their own.",
                )
        except OSError as error:
            raise ConfigurationError(
                f"Logs can't be written to {folder.absolute()}: {error.strerror}.",
                hint="Choose another folder with ATELIER_LOG_DIR, or `none` for the console only.",
            ) from None
        yield path
