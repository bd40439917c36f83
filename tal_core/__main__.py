"""``python -m tal_core``."""

import sys

from tal_core.cli import main

sys.exit(main())
