"""What is found out about one part."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from atelier.errors import AtelierError

Level = Literal["ok", "warning", "failed"]

GB = 10**9
SHORTEST_SECRET = 8  # characters; hiding shorter ones would hide half of the text

_PASSWORD = re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)")


@dataclass(frozen=True, slots=True)
class Finding:
    """``message`` says what is, ``hint`` what to do; the latter is empty where all is well."""

    part: str
    level: Level
    message: str
    hint: str = ""


def without_secrets(finding: Finding, secrets: Collection[str]) -> Finding:
    """``finding`` with no password of an address, and none of ``secrets``, to be read in it."""

    def clean(text: str) -> str:
        text = _PASSWORD.sub(r"\1***", text)
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text

    return Finding(clean(finding.part), finding.level, clean(finding.message), clean(finding.hint))


def ok(part: str, message: str) -> Finding:
    return Finding(part, "ok", message)


def warning(part: str, message: str, hint: str) -> Finding:
    return Finding(part, "warning", message, hint)


def failed(part: str, message: str, hint: str) -> Finding:
    return Finding(part, "failed", message, hint)


def of_error(part: str, error: AtelierError, level: Level = "failed") -> Finding:
    return Finding(part, level, error.message, error.hint)


def in_gb(size_bytes: float) -> str:
    return f"{size_bytes / GB:.1f} GB"
