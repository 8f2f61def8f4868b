"""Fills a hole in a picture with what could have been there, from the picture itself."""

import math
from collections.abc import Callable

import cv2
import numpy as np

from atelier.engine.retouch.patch_match import RADIUS, Finder, Mask, Matches, touched, usable
from atelier.engine.stylise.scene import Bytes, Floats, as_bytes, as_floats

_MOST_HOLE_PIXELS = 9_000
_MOST_PIXELS = 90_000
_THINNEST = 1.5  # pixels from the rim to the middle of the hole at the coarsest size
_SHRINK = 0.55
_LEAST_USABLE = 50


def fill(
    rgb: Bytes,
    hole: Mask,
    seed: int,
    *,
    on_step: Callable[[int, int], None],
    on_preview: Callable[[Bytes], None],
) -> Bytes:
    """Return ``rgb`` (HxWx3) with ``hole`` (HxW) filled by matching patches, coarse to fine.

    Only what is around the hole is looked at, at most twice as large as the hole itself. The
    same seed gives the same picture. Where nothing can be copied, colours flow in instead.
    """
    top, bottom, left, right = _surroundings(hole)
    near, near_hole = rgb[top:bottom, left:right], hole[top:bottom, left:right]
    result = rgb.copy()
    levels = _levels(near, near_hole)
    last = len(levels) + 1
    if not levels:
        filled = smooth(near, near_hole)
        result[top:bottom, left:right] = filled
        on_step(1, last)
        return result
    rng = np.random.default_rng(seed % 2**64)
    matches: Matches | None = None
    guess: Floats | None = None
    for number, (picture, small_hole) in enumerate(levels):
        start = _start(picture, small_hole, guess, matches)
        if matches is None:
            matches = _random(small_hole, rng)
        else:
            matches = _enlarged(matches, levels[number - 1][1], small_hole, rng)
        guess = _settle(start, small_hole, matches, number == len(levels) - 1, rng)
        on_step(number + 1, last)
        result[top:bottom, left:right] = _pasted(near, near_hole, _to_rgb(guess))
        on_preview(result)
    assert matches is not None
    result[top:bottom, left:right] = _copied(near, near_hole, levels[-1][1], matches)
    on_step(last, last)
    return result


def smooth(rgb: Bytes, hole: Mask) -> Bytes:
    """Return ``rgb`` with colours flowing into ``hole`` from its rim: for scratches and wires."""
    filled = cv2.inpaint(rgb, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    return as_bytes(filled)


def _surroundings(hole: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    margin = max(48, (bottom - top + right - left) // 2)
    height, width = hole.shape
    return (
        max(0, top - margin),
        min(height, bottom + margin),
        max(0, left - margin),
        min(width, right + margin),
    )


def _levels(rgb: Bytes, hole: Mask) -> list[tuple[Floats, Mask]]:
    """Return the picture (Lab) and its hole at growing sizes; none if nothing can be copied."""
    height, width = hole.shape
    scale = min(
        1.0,
        math.sqrt(_MOST_HOLE_PIXELS / max(int(hole.sum()), 1)),
        math.sqrt(_MOST_PIXELS / hole.size),
    )
    levels = []
    while True:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = as_bytes(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
        covered = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        small_hole = covered > 0.01
        if int(usable(small_hole).sum()) < _LEAST_USABLE:
            break
        levels.append((_to_lab(small), small_hole))
        if float(_depth(small_hole).max()) <= _THINNEST or min(size) < 8 * RADIUS:
            break
        scale *= _SHRINK
    return levels[::-1]


def _start(picture: Floats, hole: Mask, guess: Floats | None, matches: Matches | None) -> Floats:
    if guess is None:
        return _to_lab(smooth(_to_rgb(picture), hole))
    height, width = hole.shape
    start = picture.copy()
    larger = cv2.resize(guess, (width, height), interpolation=cv2.INTER_CUBIC)
    start[hole] = larger[hole]
    return as_floats(start)


def _settle(
    picture: Floats, hole: Mask, matches: Matches, is_last: bool, rng: np.random.Generator
) -> Floats:
    finder = Finder(picture, hole, _depth(hole), rng)
    for turn in range(2 if is_last else 5):
        finder.search(picture, matches, 2 if turn == 0 else 1)
        picture = finder.vote(picture, matches)
    return picture


def _random(hole: Mask, rng: np.random.Generator) -> Matches:
    places = touched(hole)
    free = np.argwhere(usable(hole)).astype(np.int32)
    sources = free[rng.integers(0, len(free), len(places))]
    return Matches(places, sources, np.full(len(places), np.inf, np.float32))


def _enlarged(matches: Matches, small: Mask, hole: Mask, rng: np.random.Generator) -> Matches:
    """Return ``matches`` for the next larger size; those that land on the hole start anew."""
    larger = _random(hole, rng)
    scale = np.array(hole.shape) / np.array(small.shape)
    moves = np.zeros((*small.shape, 2), np.float32)
    known = np.zeros(small.shape, bool)
    moves[matches.places[:, 0], matches.places[:, 1]] = matches.sources - matches.places
    known[matches.places[:, 0], matches.places[:, 1]] = True
    at = np.minimum((larger.places + 0.5) / scale, np.array(small.shape) - 1).astype(np.int32)
    wanted = larger.places + np.rint(moves[at[:, 0], at[:, 1]] * scale).astype(np.int32)
    inside = (wanted >= 0).all(axis=1) & (wanted < np.array(hole.shape)).all(axis=1)
    inside &= known[at[:, 0], at[:, 1]]
    wanted[~inside] = 0
    inside &= usable(hole)[wanted[:, 0], wanted[:, 1]]
    larger.sources[inside] = wanted[inside]
    return larger


def _copied(rgb: Bytes, hole: Mask, small_hole: Mask, matches: Matches) -> Bytes:
    """Return ``rgb`` at full size with each pixel of the hole copied from where it matches.

    The copies of neighbouring matches overlap softly, so that no seams show between them.
    """
    moves = np.zeros((*small_hole.shape, 2), np.float32)
    moves[matches.places[:, 0], matches.places[:, 1]] = matches.sources - matches.places
    scale = np.array(hole.shape) / np.array(small_hole.shape)
    places = np.argwhere(hole)
    total = np.zeros((len(places), 3), np.float32)
    weight = np.zeros((len(places), 1), np.float32)
    centre = (places + 0.5) / scale - 0.5
    corner = np.floor(centre).astype(np.int64)
    rest = (centre - corner).astype(np.float32)
    limit = np.array(small_hole.shape) - 1
    for down in (0, 1):
        for right in (0, 1):
            at = np.clip(corner + np.array([down, right]), 0, limit)
            move = np.rint(moves[at[:, 0], at[:, 1]] * scale).astype(np.int64)
            source = np.clip(places + move, 0, np.array(hole.shape) - 1)
            share = np.abs(1 - down - rest[:, 0]) * np.abs(1 - right - rest[:, 1])
            share = share * ~hole[source[:, 0], source[:, 1]] + 1e-6
            total += rgb[source[:, 0], source[:, 1]] * share[:, None]
            weight += share[:, None]
    result = rgb.copy()
    result[hole] = np.rint(total / weight).astype(np.uint8)
    return result


def _pasted(rgb: Bytes, hole: Mask, small: Bytes) -> Bytes:
    result = rgb.copy()
    larger = cv2.resize(small, (hole.shape[1], hole.shape[0]), interpolation=cv2.INTER_LINEAR)
    result[hole] = larger[hole]
    return result


def _depth(hole: Mask) -> Floats:
    padded = cv2.copyMakeBorder(hole.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return as_floats(cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1])


def _to_lab(rgb: Bytes) -> Floats:
    return as_floats(cv2.cvtColor(rgb.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab))


def _to_rgb(lab: Floats) -> Bytes:
    rgb = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
