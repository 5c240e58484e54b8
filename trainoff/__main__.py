"""``python -m trainoff``."""

import sys

from trainoff.command_line import main

sys.exit(main())
