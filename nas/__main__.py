"""``python -m nas`` is the command ``nas``."""

import sys

from nas.cli import main

sys.exit(main())
