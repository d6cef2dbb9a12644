"""The command line: ``outskirt``, or ``python -m outskirt``."""

import sys

from . import _native


def main() -> int:
    """Run a command; its exit status."""
    return _native.main(["outskirt", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
