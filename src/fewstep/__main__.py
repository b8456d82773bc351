"""`python -m fewstep` is the `fewstep` command."""

from __future__ import annotations

import sys

from fewstep.cli.main import main

sys.exit(main())
