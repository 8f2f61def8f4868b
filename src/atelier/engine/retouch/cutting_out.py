"""Separates the subject of a photo from its background, with a soft edge."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from atelier.engine.retouch.faces import Face, find_faces
from atelier.engine.stylise.operators import blur, luma, to_lab, to_unit
from atelier.engine.stylise.scene import Bytes, Floats, as_floats

STEPS = 5
_WORKING_PIXELS = 120_000
_BORDER = 0.02  # of the mean side: what is taken for background to begin with
_CLUSTERS = 6
_LEAST_SUBJECT = 0.005  # of the picture
_LEAST_CONTRAST = 0.7  # in spreads of the background's colours
_NOTHING = "Nothing in the picture stands out; mark the subject with a mask"


class NoSubject(ValueError):
    """Nothing in the picture stands out from the rest."""


def cut_out(
    rgb: Bytes,
    hint: Floats | None,
    margin: int,
    feather: int,
    *,
    on_step: Callable[[int], None],
) -> tuple[Floats, Floats]:
    """Return the subject's colours (HxWx3, its edge freed of the background) and its alpha (HxW).

    ``hint`` (HxW) is 1 where the subject may be. ``margin`` pixels are added around it, negative
    ones taken away; the edge is softened over ``feather`` pixels. Raises NoSubject.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, math.sqrt(_WORKING_PIXELS / (height * width)))
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    area = None if hint is None else cv2.resize(hint, size, interpolation=cv2.INTER_AREA) > 0.3
    score = _standing_out(small) if area is None else _unlike_outside(small, area)
    on_step(1)
    faces = find_faces(small) if area is None else []
    on_step(2)
    rough = _separated(small, score, faces, area)
    on_step(3)
    alpha = _matted(rgb, rough)
    on_step(4)
    alpha = _edged(alpha, margin, feather)
    colours = _freed(to_unit(rgb), alpha)
    on_step(5)
    return colours, alpha


def _standing_out(small: Bytes) -> Floats:
    """Return 0..1: how unlike the picture's border each pixel is, more so in the middle."""
    height, width = small.shape[:2]
    ring = max(2, round(0.04 * math.sqrt(height * width)))
    # The lower border is left out: subjects mostly stand on it.
    frame = np.zeros((height, width), bool)
    frame[:ring] = frame[:, :ring] = frame[:, -ring:] = True
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    middle = as_floats(np.exp(-(x**2 + (0.8 * y) ** 2) * 1.2))
    return as_floats(_unlike(small, frame) * (0.35 + 0.65 * middle))


def _unlike_outside(small: Bytes, area: NDArray[np.bool_]) -> Floats:
    if area.all() or not area.any():
        raise NoSubject("The subject mask selects all or nothing; paint over the subject only")
    return as_floats(np.where(area, 0.35 + 0.65 * _unlike(small, ~area), 0))


def _unlike(small: Bytes, background: NDArray[np.bool_]) -> Floats:
    lab = blur(to_lab(to_unit(small)), 2)
    samples = lab[background].reshape(-1, 3)
    samples = samples[:: max(1, len(samples) // 5000)].copy()
    clusters = min(_CLUSTERS, len(samples))
    cv2.setRNGSeed(1)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    _, labels, centres = cv2.kmeans(
        samples, clusters, np.empty(0, np.int32), criteria, 2, cv2.KMEANS_PP_CENTERS
    )
    distance = np.full(small.shape[:2], np.inf, np.float32)
    for number, centre in enumerate(centres):
        spread = samples[labels[:, 0] == number].std(axis=0) + 3
        share = float((labels == number).mean())
        # A colour that is rare at the border may be the subject reaching it.
        penalty = 0.0 if share > 0.08 else 3.0
        away = np.sqrt((((lab - centre) / spread) ** 2).sum(axis=2)) + penalty
        distance = np.minimum(distance, away)
    high = float(np.percentile(distance, 97))
    if high < _LEAST_CONTRAST:
        raise NoSubject(_NOTHING)
    return as_floats(np.clip(distance / high, 0, 1))


def _separated(
    small: Bytes, score: Floats, faces: list[Face], area: NDArray[np.bool_] | None
) -> Floats:
    """Return the subject as 0 or 1, by GrabCut from the score."""
    threshold, _ = cv2.threshold(
        (score * 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU
    )
    level = threshold / 255
    marks = np.where(score > level, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    marks[score > level + (1 - level) * 0.6] = cv2.GC_FGD if area is None else cv2.GC_PR_FGD
    if area is not None:
        marks[~cv2.dilate(area.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)] = 0
    else:
        _mark_people(marks, faces)
        ring = max(1, round(_BORDER * math.sqrt(marks.size)))
        for edge in (marks[:ring], marks[:, :ring], marks[:, -ring:]):
            edge[(edge == cv2.GC_PR_BGD)] = cv2.GC_BGD
    if not (marks & 1).any() or (marks & 1).all():
        raise NoSubject(_NOTHING)
    cv2.setRNGSeed(1)
    behind, before = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, marks, (0, 0, 1, 1), behind, before, 5, cv2.GC_INIT_WITH_MASK)
    return _main_parts((marks & 1).astype(np.uint8))


def _mark_people(marks: Bytes, faces: list[Face]) -> None:
    """Mark faces as subject, and the bodies below them as likely."""
    for face in faces:
        if face.size < 0.25 * faces[0].size:
            continue
        x, y = face.centre
        side = face.size
        body = np.array(
            [
                (x - 0.4 * side, y + 0.7 * side),
                (x + 0.4 * side, y + 0.7 * side),
                (x + 1.1 * side, y + 1.5 * side),
                (x + 1.2 * side, y + 3.5 * side),
                (x - 1.2 * side, y + 3.5 * side),
                (x - 1.1 * side, y + 1.5 * side),
            ]
        )
        cv2.fillPoly(marks, [body.astype(np.int32)], cv2.GC_PR_FGD)
        head = (round(x), round(y - 0.2 * side))
        cv2.ellipse(marks, head, (round(0.72 * side), round(0.92 * side)), 0, 0, 360, 3, -1)
        core = (round(0.35 * side), round(0.45 * side))
        cv2.ellipse(marks, head, core, 0, 0, 360, cv2.GC_FGD, -1)


def _main_parts(subject: Bytes) -> Floats:
    """Return ``subject`` without specks and pinholes."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(subject)
    if count < 2 or float(subject.mean()) < _LEAST_SUBJECT:
        raise NoSubject(_NOTHING)
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.flatnonzero(areas >= 0.12 * areas.max()) + 1
    solid = np.isin(labels, kept).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - solid, connectivity=4)
    for number in range(1, count):
        if stats[number, cv2.CC_STAT_AREA] < 0.004 * solid.size:
            solid[labels == number] = 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    return as_floats(cv2.morphologyEx(solid, cv2.MORPH_OPEN, kernel))


def _matted(rgb: Bytes, rough: Floats) -> Floats:
    """Return ``rough`` at full size, its edge following the photo's (a guided filter)."""
    height, width = rgb.shape[:2]
    unit = math.sqrt(height * width) / 1000
    soft = np.clip(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    radius = max(2, round(7 * unit))
    followed = cv2.ximgproc.guidedFilter(rgb, as_floats(soft), radius, 1e-4 * 255**2)
    # Far from the edge the filter must change nothing.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    inner = cv2.erode(soft, kernel)
    outer = cv2.dilate(soft, kernel)
    alpha = np.clip(followed * 1.25 - 0.125, inner, outer)
    return as_floats(np.clip(alpha, 0, 1))


def _edged(alpha: Floats, margin: int, feather: int) -> Floats:
    if margin:
        size = 2 * abs(margin) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        operate = cv2.dilate if margin > 0 else cv2.erode
        alpha = as_floats(operate(alpha, kernel))
    return blur(alpha, feather / 2) if feather else alpha


def _freed(rgb: Floats, alpha: Floats) -> Floats:
    """Return ``rgb`` with the background's colour taken out of half-transparent pixels."""
    unit = math.sqrt(alpha.size) / 1000
    sure = (alpha > 0.97).astype(np.float32)
    weight = blur(sure, max(2, 5 * unit))
    inner = blur(as_floats(rgb * sure[..., None]), max(2, 5 * unit)) / (weight[..., None] + 1e-4)
    mixed = np.clip((1 - alpha) * weight * 8, 0, 1) * (alpha < 0.97)
    # Only the colour is replaced as a whole: hair keeps its light and dark strands.
    shade = np.clip((luma(rgb) + 0.05) / (luma(as_floats(inner)) + 0.05), 0.5, 1.2)
    return as_floats(np.clip(rgb + (inner * shade[..., None] - rgb) * mixed[..., None], 0, 1))
