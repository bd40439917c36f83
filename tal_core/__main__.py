"""``python -m tal_core``."""

import os
import sys

from tal_core.background.processes import IDLE_THREADS
from tal_core.cli import main

# Before anything loads torch.
for name, value in IDLE_THREADS.items():
    os.environ.setdefault(name, value)

sys.exit(main())
