"""The command line: ``outskirt``, or ``python -m outskirt``."""

import signal
import sys

from . import _native


def main() -> int:
    """Run a command; its exit status."""
    # Python would hear Ctrl-C once the command is done
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.main(["outskirt", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
