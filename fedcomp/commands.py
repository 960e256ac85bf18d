"""How a command ends, whatever happens in it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from fedcomp.errors import ConfigError, DataError, FedcompError

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def end(name: str, work: Callable[[], None]) -> NoReturn:
    """Do a command's work and exit with 0, 1 (failed), 2 (wrong arguments) or 130 (interrupted)."""
    code = 0
    try:
        work()
    except (ConfigError, DataError) as error:
        for problem in getattr(error, "problems", [str(error)]):
            print(f"{name}: {problem}", file=sys.stderr)
        code = EXIT_USAGE
    except (FedcompError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        os._exit(EXIT_INTERRUPTED)  # at once: torch and numba take their time
    sys.exit(code)
