"""`python -m logstream_server`: the command line of `logstream`, for when its script is not on PATH."""

import sys

from logstream_server.cli import main

if __name__ == "__main__":
    sys.exit(main())
