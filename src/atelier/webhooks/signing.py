"""Signatures by the Standard Webhooks rules. Pure: time and chance are arguments."""

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from standardwebhooks import Webhook

from atelier.errors import ConfigurationError

PREFIX = "whsec_"
SECRET_BYTES = 32
SHORTEST_BYTES, LONGEST_BYTES = 24, 64


class WebhookSecretUnusable(ConfigurationError):
    code = "WEBHOOK_SECRET_UNUSABLE"
    default_hint = (
        f"Set ATELIER_WEBHOOK_SECRET to {PREFIX} and {SHORTEST_BYTES} to {LONGEST_BYTES} random "
        "bytes in base64, or leave it out to have one made."
    )


def new_secret(random_bytes: Callable[[int], bytes]) -> str:
    """``whsec_`` and 32 bytes of ``random_bytes`` in base64."""
    return PREFIX + base64.b64encode(random_bytes(SECRET_BYTES)).decode()


def checked_secret(secret: str) -> str:
    """``secret`` if receivers can verify with it. Raises WebhookSecretUnusable."""
    text = secret.strip()
    try:
        # Unpadded base64 is common in environment variables.
        raw = base64.b64decode(text.removeprefix(PREFIX) + "==", validate=False)
        plain = text.removeprefix(PREFIX).rstrip("=")
        if base64.b64encode(raw).decode().rstrip("=") != plain:
            raise ValueError(text)
    except (binascii.Error, ValueError):
        raise WebhookSecretUnusable("The secret for webhooks isn't base64.") from None
    if not SHORTEST_BYTES <= len(raw) <= LONGEST_BYTES:
        raise WebhookSecretUnusable(f"The secret for webhooks has {len(raw)} bytes.")
    return text


def signed_headers(secret: str, id: str, at_seconds: int, body: bytes) -> Mapping[str, str]:
    """The three headers with which a receiver can tell that ``body`` comes from us, and when."""
    moment = datetime.fromtimestamp(at_seconds, UTC)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": Webhook(secret).sign(id, moment, body.decode()),
    }
