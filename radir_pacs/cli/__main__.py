"""``python -m radir_pacs.cli`` is ``radir``."""

import sys

from radir_pacs.cli import main

sys.exit(main())
