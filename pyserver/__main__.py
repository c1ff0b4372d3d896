"""`python -m pyserver` is the command `pyserver`."""

import sys

from pyserver.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
