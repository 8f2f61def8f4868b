"""Which keys a store accepts."""

from atelier.storage.store import KeyInvalid

MAX_KEY_CHARACTERS = 512


def check_key(key: str) -> str:
    """``key`` itself. Raises KeyInvalid unless it is a plain relative path.

    Refused: empty keys and segments, ``.`` and ``..``, absolute paths, drive letters,
    backslashes, control characters, and segments that end in a dot or a space or hold a
    ``#`` and digits at the end, which file systems or obstore read as something else.
    """
    if not key or len(key) > MAX_KEY_CHARACTERS:
        raise KeyInvalid(f"A key has 1 to {MAX_KEY_CHARACTERS} characters, not {len(key)}.")
    if "\\" in key or ":" in key or not key.isprintable():
        raise KeyInvalid(f"The key {key!r} holds a character that keys can't have.", key=key)
    for segment in key.split("/"):
        if segment in ("", ".", "..") or segment[-1] in ". " or _is_staging_name(segment):
            raise KeyInvalid(f"The key {key!r} is not a plain relative path.", key=key)
    return key


def _is_staging_name(segment: str) -> bool:
    # obstore's local store writes to `name#1` first and hides such names in listings.
    _, mark, digits = segment.rpartition("#")
    return bool(mark) and digits.isdigit()
