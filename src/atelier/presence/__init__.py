"""Which processes of this installation live, and what the installation is called."""

from atelier.presence.installation import installation_id
from atelier.presence.register import SILENT_SECONDS, ProcessRecord, Register, Role

__all__ = ["SILENT_SECONDS", "ProcessRecord", "Register", "Role", "installation_id"]
