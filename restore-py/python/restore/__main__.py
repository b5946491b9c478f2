"""The command line: the script ``restore``, or ``python -m restore``, which like all of ``python -m`` takes
modules from the directory that it is called in first."""

from __future__ import annotations

import sys

from ._restore import command_line

_AGAIN = (
    "import sys; sys.path[:1] = [it for it in sys.path[:1] if it]; "
    "from restore.__main__ import main; sys.exit(main())"
)
"""What starts the same once more, for a run that outlives this process. Not ``-m``: nothing is imported from the
directory that it happens to be called in, which may be anybody's."""


def main() -> int:
    """Does what the arguments say; the exit code."""
    return command_line(["restore", *sys.argv[1:]], [sys.executable, "-c", _AGAIN])


if __name__ == "__main__":
    sys.exit(main())
