"""ThumbHash (https://evanw.github.io/thumbhash/): a picture's gist in about 25 bytes.

Written here because the package of that name fails on transparent pictures (0.1.2), and is
slow. A cosine transform of brightness, two colour differences and opacity keeps the low
frequencies with four bits each.
"""

import math
from functools import lru_cache
from operator import mul


def thumbhash(width: int, height: int, rgba: bytes) -> bytes:
    """The hash of ``width`` x ``height`` pixels of 8-bit RGBA, not premultiplied; up to 100 a side.

    Layout, bits from the lowest: brightness 6, yellow-blue 6, red-green 6, brightness scale 5,
    has opacity 1 | frequencies of the shorter side 3, colour scales 6 and 6, is landscape 1 |
    opacity 4 and its scale 4, if there is some | four bits per frequency.
    """
    if not 0 < width <= 100 or not 0 < height <= 100 or len(rgba) != width * height * 4:
        raise ValueError(f"{len(rgba)} bytes are not {width} x {height} pixels, at most 100 a side")
    reds, greens, blues = (_scaled(rgba[channel::4]) for channel in range(3))
    alphas = _scaled(rgba[3::4])
    opacity = sum(alphas)
    has_alpha = opacity < width * height
    if has_alpha:
        # What is transparent takes the average colour, which adds no frequencies.
        reds, greens, blues = (_over_average(c, alphas, opacity) for c in (reds, greens, blues))
    brightness = [(r + g + b) / 3 for r, g, b in zip(reds, greens, blues, strict=True)]
    yellow_blue = [(r + g) / 2 - b for r, g, b in zip(reds, greens, blues, strict=True)]
    red_green = [r - g for r, g in zip(reds, greens, strict=True)]

    most = 5 if has_alpha else 7
    longer = max(width, height)
    across = max(1, _rounded(most * width / longer))
    down = max(1, _rounded(most * height / longer))
    l_mean, l_scale, l_terms = _transform(brightness, width, max(3, across), max(3, down))
    p_mean, p_scale, p_terms = _transform(yellow_blue, width, 3, 3)
    q_mean, q_scale, q_terms = _transform(red_green, width, 3, 3)

    is_landscape = width > height
    head = (
        _rounded(63 * l_mean)
        | _rounded(31.5 + 31.5 * p_mean) << 6
        | _rounded(31.5 + 31.5 * q_mean) << 12
        | _rounded(31 * l_scale) << 18
        | has_alpha << 23
    )
    scales = (
        (down if is_landscape else across)
        | _rounded(63 * p_scale) << 3
        | _rounded(63 * q_scale) << 9
        | is_landscape << 15
    )
    out = bytearray(head.to_bytes(3, "little") + scales.to_bytes(2, "little"))
    terms = l_terms + p_terms + q_terms
    if has_alpha:
        a_mean, a_scale, a_terms = _transform(alphas, width, 5, 5)
        out.append(_rounded(15 * a_mean) | _rounded(15 * a_scale) << 4)
        terms += a_terms
    nibbles = [_rounded(15 * term) for term in terms]
    if len(nibbles) % 2:
        nibbles.append(0)
    out += bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    return bytes(out)


def _transform(
    channel: list[float], width: int, across: int, down: int
) -> tuple[float, float, list[float]]:
    """(mean, scale, terms) of the frequencies in a triangle; terms are 0..1 for -scale..scale."""
    height = len(channel) // width
    rows = [channel[at : at + width] for at in range(0, len(channel), width)]
    cosines = _cosines(width, across)
    # Rows first, then columns of what is left: a product per frequency and side, not per pair.
    columns = [[sum(map(mul, row, cosine)) for row in rows] for cosine in cosines]
    terms = []
    for y, cosine in enumerate(_cosines(height, down)):
        for x in range(across):
            if x * down >= across * (down - y):
                break
            terms.append(sum(map(mul, columns[x], cosine)) / len(channel))
    mean, terms = terms[0], terms[1:]
    scale = max(map(abs, terms))
    if scale:
        terms = [0.5 + 0.5 / scale * term for term in terms]
    return mean, scale, terms


@lru_cache(maxsize=64)
def _cosines(length: int, frequencies: int) -> tuple[tuple[float, ...], ...]:
    step = math.pi / length
    return tuple(
        tuple(math.cos(step * frequency * (at + 0.5)) for at in range(length))
        for frequency in range(frequencies)
    )


_UNIT = tuple(value / 255 for value in range(256))


def _scaled(values: bytes) -> list[float]:
    return [_UNIT[value] for value in values]


def _over_average(channel: list[float], alphas: list[float], opacity: float) -> list[float]:
    average = sum(map(mul, channel, alphas)) / opacity if opacity else 0.0
    return [average + alpha * (c - average) for c, alpha in zip(channel, alphas, strict=True)]


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)
