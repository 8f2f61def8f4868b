"""Finds, for each pixel in and around a hole, a place outside of it that looks alike.

After Barnes et al., "PatchMatch" (2009) and Wexler et al., "Space-time completion" (2007):
guesses spread to neighbours, and what the guesses say about a pixel is averaged. Patches are
compared by their main components, which is ten times quicker than pixel by pixel.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from atelier.engine.stylise.scene import Floats, as_floats

RADIUS = 3  # of a patch, which is 7x7 pixels
_SIZE = 2 * RADIUS + 1
_COMPONENTS = 12
_SAMPLES = 3000  # patches that the components are taken from
_NEARNESS = 40  # how much a source as far away as the picture is wide counts as unlike

Places = NDArray[np.int32]  # Nx2: row, column
Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Matches:
    """``places`` are the centres of patches that touch the hole, ``sources`` what fits there."""

    places: Places
    sources: Places
    costs: Floats


def usable(hole: Mask) -> Mask:
    """Return the centres of patches that lie inside the picture and touch no hole."""
    kernel = np.ones((_SIZE, _SIZE), np.uint8)
    free = cv2.erode(
        (~hole).astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    return free > 0


def touched(hole: Mask) -> Places:
    """Return the centres of patches that touch the hole, in reading order."""
    near = cv2.dilate(hole.astype(np.uint8), np.ones((_SIZE, _SIZE), np.uint8))
    return np.argwhere(near > 0).astype(np.int32)


class Finder:
    """Finds and applies matches in one picture (HxWx3, Lab) with one hole."""

    def __init__(self, picture: Floats, hole: Mask, depth: Floats, rng: np.random.Generator):
        """``depth`` is each pixel's distance into the hole: what is near the rim is surer."""
        self._hole = hole
        self._depth = depth
        self._rng = rng
        self._free = usable(hole)
        self._kernels = _components(picture, self._free, rng)
        self._features = np.empty((*hole.shape, _COMPONENTS + 2), np.float32)
        self._describe(picture, np.argwhere(self._free).astype(np.int32))

    def search(self, picture: Floats, matches: Matches, rounds: int) -> None:
        """Improve ``matches`` for ``picture``, the hole filled with the guess so far."""
        rows, columns = matches.places.T
        self._describe(picture, matches.places)
        wanted = self._features[rows, columns]
        index = np.full(self._hole.shape, -1, np.int32)
        index[rows, columns] = np.arange(len(rows))
        matches.costs = self._cost(wanted, matches.sources)
        for turn in range(rounds):
            for distance in (4, 1) if turn % 2 == 0 else (2, 1):
                for step in ((0, distance), (0, -distance), (distance, 0), (-distance, 0)):
                    self._offer(matches, wanted, _from_neighbours(matches, index, step))
            reach = max(self._hole.shape) // 2
            while reach >= 1:
                shape = matches.sources.shape
                jump = self._rng.integers(-reach, reach + 1, shape, dtype=np.int32)
                self._offer(matches, wanted, matches.sources + jump)
                reach //= 4

    def vote(self, picture: Floats, matches: Matches) -> Floats:
        """Return ``picture`` with the hole as the matches say, the better ones louder."""
        spread = max(float(np.percentile(matches.costs, 75)), 1e-3)
        rows, columns = matches.places.T
        surer = np.power(1.3, -self._depth[rows, columns])
        weights = (np.exp(-matches.costs / (2 * spread)) * surer + 1e-8).astype(np.float32)
        height, width = self._hole.shape
        stride = width + 2 * RADIUS
        colours = np.dstack([picture, np.ones(self._hole.shape, np.float32)])
        colours = _bordered(colours).reshape(-1, 4)
        total = np.zeros_like(colours)
        sources = matches.sources[:, 0] * stride + matches.sources[:, 1]
        targets = rows * stride + columns
        for down in range(_SIZE):
            for offset in range(down * stride, down * stride + _SIZE):
                seen = colours.take(sources + offset, axis=0)
                seen *= weights[:, None]
                total[targets + offset] += seen
        total = total.reshape(height + 2 * RADIUS, stride, 4)[RADIUS:-RADIUS, RADIUS:-RADIUS]
        result = picture.copy()
        result[self._hole] = total[self._hole, :3] / total[self._hole, 3:]
        return as_floats(result)

    def _offer(self, matches: Matches, wanted: Floats, sources: Places) -> None:
        """Take those of ``sources`` that are usable and fit better than what ``matches`` has."""
        height, width = self._hole.shape
        rows, columns = sources.T
        inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
        chosen = np.flatnonzero(inside)
        chosen = chosen[self._free[rows[chosen], columns[chosen]]]
        costs = self._cost(wanted[chosen], sources[chosen])
        better = costs < matches.costs[chosen]
        matches.costs[chosen[better]] = costs[better]
        matches.sources[chosen[better]] = sources[chosen[better]]

    def _cost(self, wanted: Floats, sources: Places) -> Floats:
        flat = sources[:, 0] * self._hole.shape[1] + sources[:, 1]
        difference = self._features.reshape(-1, _COMPONENTS + 2).take(flat, axis=0)
        difference -= wanted
        return as_floats(np.einsum("ij,ij->i", difference, difference))

    def _describe(self, picture: Floats, places: Places) -> None:
        """Note the main components of the patches around ``places``, and where they are."""
        rows, columns = places.T
        patches = _patches(picture)[rows, columns].reshape(len(places), -1)
        self._features[rows, columns, :_COMPONENTS] = patches @ self._kernels
        nearness = np.float32(_NEARNESS / max(self._hole.shape))
        self._features[rows, columns, _COMPONENTS:] = places * nearness


def _from_neighbours(matches: Matches, index: NDArray[np.int32], step: tuple[int, int]) -> Places:
    height, width = index.shape
    rows = np.clip(matches.places[:, 0] + step[0], 0, height - 1)
    columns = np.clip(matches.places[:, 1] + step[1], 0, width - 1)
    found = index[rows, columns]
    # A neighbour outside of the area offers what we have already.
    found = np.where(found < 0, np.arange(len(found)), found)
    return matches.sources[found] + (matches.places - matches.places[found])


def _patches(picture: Floats) -> Floats:
    padded = _bordered(picture)
    return np.lib.stride_tricks.sliding_window_view(padded, (_SIZE, _SIZE), axis=(0, 1))


def _bordered(picture: Floats) -> Floats:
    border = cv2.BORDER_REFLECT
    return as_floats(cv2.copyMakeBorder(picture, RADIUS, RADIUS, RADIUS, RADIUS, border))


def _components(picture: Floats, free: Mask, rng: np.random.Generator) -> Floats:
    rows, columns = np.nonzero(free)
    chosen = rng.integers(0, len(rows), _SAMPLES)
    sample = _patches(picture)[rows[chosen], columns[chosen]].reshape(_SAMPLES, -1)
    centred = sample - sample.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return as_floats(vectors[:, ::-1][:, :_COMPONENTS])
