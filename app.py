"""The app as a Space starts it; `python app.py` serves it on this machine alone."""

import os
import sys

try:
    from colorhub.app import build, launch
except ImportError as error:
    sys.exit(f"error: the app needs {error.name}: pip install 'colorhub[app]'")
from colorhub.errors import ColorhubError

demo = build()

if __name__ == "__main__":
    try:
        launch(host="0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1", demo=demo)
    except ColorhubError as error:
        sys.exit(f"error: {error}")
