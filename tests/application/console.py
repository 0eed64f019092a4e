"""What the console script does."""

import sys

from benchtree.cli import main

if __name__ == "__main__":
    sys.exit(main())
