"""`python -m registry_sync`."""

import sys

from registry_sync.task import main

sys.exit(main())
