"""A few colours that stand for a whole photo, and the smooth regions they fill."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .operators import blur
from .scene import Bytes, Floats, as_floats

# A colour is told apart by its hue first: else bright skin falls in with a white wall.
METRIC = np.array([1.0, 1.6, 1.6], dtype=np.float32)
SAMPLES = 6000  # pixels that k-means looks at; more change nothing one can see
ROUNDS = 12  # k-means has settled well before


@dataclass(frozen=True)
class Regions:
    """Which of its colours each pixel has: ``labels`` is HxW, counted from 0."""

    labels: Bytes

    def fill(self, colours: Floats, softness: float) -> Floats:
        """Return the regions in ``colours`` (Kx3), their edges ``softness`` pixels soft."""
        return blur(np.take(colours, self.labels, axis=0), softness)


def pick_colours(lab: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Return up to ``count`` colours (Kx3, Lab, dark to light) by k-means on a sample."""
    pixels = lab.reshape(-1, 3)
    sample = pixels[rng.integers(0, len(pixels), SAMPLES)] * METRIC
    # Rare vivid colours must not drown in large dull areas.
    vivid = as_floats(1 + np.hypot(sample[:, 1], sample[:, 2]) / 60)
    centres = _spread_out(sample, count, vivid, rng)
    for _ in range(ROUNDS):
        nearest = _distances(sample, centres).argmin(axis=1)
        for index in range(len(centres)):
            mine = nearest == index
            if mine.any():
                centres[index] = np.average(sample[mine], axis=0, weights=vivid[mine])
    order = np.argsort(centres[:, 0])
    return as_floats(centres[order] / METRIC)


def divide(lab: Floats, colours: Floats, rounding: float) -> Regions:
    """Give each pixel its nearest of ``colours``, with outlines rounded over ``rounding`` px.

    Each colour's mask is blurred and the largest share wins: specks go, corners turn round.
    """
    # The nearest centre c of a pixel p has the largest 2pc - cc.
    plain = lab.reshape(-1, 3) * METRIC
    closest = np.full(len(plain), -np.inf, dtype=np.float32)
    nearest = np.zeros(len(plain), dtype=np.uint8)
    for index, colour in enumerate(colours * METRIC):
        closeness = plain @ (2 * colour) - colour @ colour
        np.copyto(nearest, index, where=closeness > closest)
        np.maximum(closest, closeness, out=closest)
    labels = nearest.reshape(lab.shape[:2])
    largest = np.zeros(labels.shape, dtype=np.uint8)
    winner = labels.copy()
    for index in range(len(colours)):
        mask = np.where(labels == index, np.uint8(255), np.uint8(0))
        share = cv2.GaussianBlur(mask, (0, 0), max(0.3, rounding), borderType=cv2.BORDER_REFLECT)
        np.copyto(winner, index, where=share > largest)
        largest = np.maximum(largest, share.astype(np.uint8, copy=False))
    return Regions(winner)


def _spread_out(sample: Floats, count: int, weights: Floats, rng: np.random.Generator) -> Floats:
    """Return first guesses far from each other (k-means++); fewer for a flat picture."""
    centres = [sample[rng.integers(len(sample))]]
    gaps = np.full(len(sample), math.inf)
    for _ in range(count - 1):
        gaps = np.minimum(gaps, ((sample - centres[-1]) ** 2).sum(axis=1))
        chances = gaps * weights
        if gaps.max() < 4.0:  # two Lab units: nobody tells these colours apart
            break
        centres.append(sample[rng.choice(len(sample), p=chances / chances.sum())])
    return np.array(centres, dtype=np.float32)


def _distances(sample: Floats, centres: Floats) -> Floats:
    return as_floats(((sample[:, None] - centres[None]) ** 2).sum(axis=2))
