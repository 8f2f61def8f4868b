"""object_info as it is kept in the database: megabytes of JSON, compressed to a tenth."""

import zlib

import orjson

from atelier.comfy.object_info import ObjectInfo


def pack(info: ObjectInfo) -> bytes:
    """Takes tens of milliseconds, so it belongs in a thread."""
    return zlib.compress(orjson.dumps(info.as_body()), 6)


def unpack(body: bytes) -> ObjectInfo:
    """The inverse of ``pack``; as slow."""
    return ObjectInfo.parse(orjson.loads(zlib.decompress(body)))
