"""From ComfyUI's UI format to its API format, as ComfyUI's own front end exports it."""

from atelier.workflows.convert.convert import ConversionFailed, convert
from atelier.workflows.convert.editor import is_editor_graph

__all__ = ["ConversionFailed", "convert", "is_editor_graph"]
