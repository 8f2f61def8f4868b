"""The production front of ComfyUI."""

__version__ = "0.1.0"
