"""object_info as it is kept in the database: megabytes of JSON, compressed, as text."""

import json
import zlib
from base64 import b64decode, b64encode

from atelier.comfy.object_info import ObjectInfo


def pack(info: ObjectInfo) -> str:
    """Takes tens of milliseconds, so it belongs in a thread."""
    # Not orjson: nodes have limits of more than 64 bits.
    text = json.dumps(info.as_body(), separators=(",", ":"))
    return b64encode(zlib.compress(text.encode(), 6)).decode()


def unpack(body: str) -> ObjectInfo:
    """The inverse of ``pack``; as slow."""
    return ObjectInfo.parse(json.loads(zlib.decompress(b64decode(body))))
