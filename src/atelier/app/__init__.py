"""The composition root: picks the adapters, wires services and faces, runs them together."""

from atelier.app.composition import (
    Application,
    application,
    check_data_dir,
    open_configured_store,
    open_database,
    service_url,
    webhook_secret,
)
from atelier.app.instances import DEFAULT_COMFYUI
from atelier.app.serving import listen, serving, stop_signals
from atelier.app.supervision import comfyui_environment, comfyui_folders, devices_of

__all__ = [
    "DEFAULT_COMFYUI",
    "Application",
    "application",
    "check_data_dir",
    "comfyui_environment",
    "comfyui_folders",
    "devices_of",
    "listen",
    "open_configured_store",
    "open_database",
    "service_url",
    "serving",
    "stop_signals",
    "webhook_secret",
]
