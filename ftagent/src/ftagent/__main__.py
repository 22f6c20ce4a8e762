"""`python -m ftagent` is `ftagent`."""

import sys

from ftagent.cli import main

sys.exit(main())
