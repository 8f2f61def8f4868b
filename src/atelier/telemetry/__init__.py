"""What operators see: logs, metrics, traces."""

from atelier.telemetry.logs import Format, configure_logging, log_files

__all__ = ["Format", "configure_logging", "log_files"]
