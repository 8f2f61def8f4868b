"""Classic stylising of photos on a CPU: no neural network, only image processing."""

from .render import STYLES, Preview, Step, stylise

__all__ = ["STYLES", "Preview", "Step", "stylise"]
