"""How much a film's colours change where nothing but motion changes."""

from collections.abc import Sequence

import numpy as np

from colorhub.flow import flow

TRUSTED = 0.5  # of the flow, above which a pixel counts


def flicker(greys: Sequence[np.ndarray], colors: Sequence[np.ndarray]) -> float:
    """The mean change of ab along the optical flow between neighbouring frames, in Lab units.

    `greys` are (H, W) uint8, by which the flow is found; `colors` (H, W, 2) are followed along it.
    Pixels that were not there before, or cannot be followed, do not count. The truth's own flicker,
    of light that changes and flow that errs, is above 0: divide by it. Of fewer than two frames it
    is 0.
    """
    changes: list[float] = []
    for i in range(1, len(greys)):
        path = flow(greys[i], greys[i - 1], strict=True)
        change = np.linalg.norm(colors[i] - path.warp(colors[i - 1]), axis=2)
        followed = path.trust > TRUSTED
        if followed.any():
            changes.append(float(change[followed].mean()))
    return float(np.mean(changes)) if changes else 0.0
