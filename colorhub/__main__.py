import sys

from colorhub.cli import main

sys.exit(main())
