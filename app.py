"""The app as a Space starts it; `python app.py` serves it on this machine alone."""

import os

from colorhub.app import build, launch

demo = build()

if __name__ == "__main__":
    launch(host="0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1", demo=demo)
