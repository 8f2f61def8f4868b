"""Figures of a running atelier, measured against direct use of the same ComfyUI.

``python -m bench`` prints them all, ``python -m bench latency`` one of them.
"""
