"""Where messages go: all of them to a file, those of Flower and Ray to the terminal on request."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fedcomp.wire import private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class LogFile(logging.FileHandler):
    """A file of messages; where no more can be written, they are dropped without a word."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Drop a message: the run says by itself what it cannot write."""

    def close(self) -> None:
        """Close the file, with or without what is still to be written."""
        with suppress(OSError):
            super().close()


_OURS = ("fedcomp", "strategies", "clients")
_THEIRS = ("flwr", "ray", "py.warnings")


@contextmanager
def logging_to(path: Path | None, *, verbose: bool) -> Iterator[None]:
    """Write the messages of all packages to a file, or drop them, while the context lasts.

    Flower's logger has a handler of its own and passes messages on, which prints each line twice
    where the root logger has one as well; here it keeps its handler only if `verbose`.
    """
    private.import_logger()
    file = LogFile(path, encoding="utf-8") if path else logging.NullHandler()
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    before = {name: _state(logging.getLogger(name)) for name in (*_OURS, *_THEIRS)}
    for name in (*_OURS, *_THEIRS):
        logger = logging.getLogger(name)
        kept = logger.handlers if verbose and name in _THEIRS else []
        logger.handlers = [*kept, file]
        logger.propagate = False
        logger.setLevel(logging.INFO)
    logging.captureWarnings(not verbose)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for name, (handlers, propagate, level) in before.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        file.close()


@contextmanager
def on_terminal(name: str, level: int) -> Iterator[None]:
    """Show the messages of a module on the terminal, too."""
    logger, handler = logging.getLogger(name), logging.StreamHandler()
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("fedcomp: %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _state(logger: logging.Logger) -> tuple[list[logging.Handler], bool, int]:
    return logger.handlers, logger.propagate, logger.level
