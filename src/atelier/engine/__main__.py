import sys

from atelier.engine.command import main

sys.exit(main())
