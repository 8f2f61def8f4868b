"""Variables of which two mean the same and say different things. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

# Each means the same as what a URL says, where both are given.
_PARTS = {
    "DATABASE_URL": {
        "DB_HOST": "hostname",
        "DB_PORT": "port",
        "DB_USER": "username",
        "DB_PASSWORD": "password",
        "DB_NAME": "path",
    },
    "REDIS_URL": {"REDIS_HOST": "hostname", "REDIS_PORT": "port", "REDIS_PASSWORD": "password"},
}
_NEED = {"DB_": "DB_HOST", "REDIS_": "REDIS_HOST"}
_SECRET_NAMES = re.compile("PASSWORD|SECRET|KEY|TOKEN|DATABASE_URL|REDIS_URL")


def contradictions(
    environment: Mapping[str, str], aliases: Iterable[Sequence[str]]
) -> Iterator[str]:
    """A sentence for each two variables that say different things about the same.

    ``aliases``: the names of one setting, for each setting; values that hold a secret aren't shown.
    """
    for names in aliases:
        # Those of the object store's own tools are meant for everything on the machine.
        given = [n for n in names if n in environment and not n.startswith("AWS_")]
        for name in given[1:]:
            if _meaning(environment[name]) != _meaning(environment[given[0]]):
                yield _both(given[0], name, environment)
    for url_name, parts in _PARTS.items():
        url = environment.get(url_name)
        named = [name for name in parts if name in environment]
        if url is None:
            prefix = next(iter(parts)).partition("_")[0] + "_"
            if named and _NEED[prefix] not in environment:
                yield f"{named[0]} is set, but neither {_NEED[prefix]} nor {url_name}"
            continue
        for name in named:
            if environment[name] != _part(url, parts[name]):
                yield _both(url_name, name, environment)


def _part(url: str, part: str) -> str | None:
    try:
        value = getattr(urlsplit(url), part)
    except ValueError:
        return None
    return unquote(str(value)).lstrip("/") if value is not None else None


def _meaning(value: str) -> frozenset[str]:
    return frozenset(part.strip().rstrip("/") for part in value.split(",") if part.strip())


def _both(first: str, second: str, environment: Mapping[str, str]) -> str:
    shown = [
        name if _SECRET_NAMES.search(name) else f"{name}={environment[name]}"
        for name in (first, second)
    ]
    return f"{shown[0]} and {shown[1]} contradict each other: keep one of them"
