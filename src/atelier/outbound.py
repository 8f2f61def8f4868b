"""HTTP to addresses that users chose: nothing inside the network can be reached through it.

Names are resolved by a resolver that drops every address that isn't public, and the
connection goes to an address that it returned, so a name can't change its meaning between
the check and the connection. Literal addresses are checked in the URL. Redirects are
followed here, each target checked like the first. Proxies of the environment are not used:
they would resolve the name again.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from atelier.errors import ConfigurationError, MediaRejected, MediaUnavailable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class UrlRefused(MediaRejected):
    """The address may not be fetched: its scheme, its form, or where it points."""

    code = "URL_REFUSED"
    default_hint = (
        "Use a public http or https address. An operator can open others with ATELIER_FETCH_ALLOW."
    )


class UrlUnreachable(MediaUnavailable):
    """The address did not answer completely in time."""

    code = "URL_UNREACHABLE"
    default_hint = "Check that the address opens in a browser; it is tried again by itself."


# https://www.iana.org/assignments/iana-ipv4-special-registry and what clouds add. Written
# out because `ipaddress.is_global` differs between versions of Python.
_REFUSED_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), words)
    for network, words in (
        ("0.0.0.0/8", "this machine"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a carrier's private network"),
        ("127.0.0.0/8", "this machine"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("169.254.0.0/16", "a link-local or metadata service"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "a reserved network"),
        ("192.0.2.0/24", "a documentation network"),
        ("192.31.196.0/24", "a reserved network"),
        ("192.52.193.0/24", "a reserved network"),
        ("192.88.99.0/24", "a relay network"),
        ("192.168.0.0/16", "a private network"),
        ("192.175.48.0/24", "a reserved network"),
        ("198.18.0.0/15", "a test network"),
        ("198.51.100.0/24", "a documentation network"),
        ("203.0.113.0/24", "a documentation network"),
        ("224.0.0.0/4", "a multicast group"),
        ("240.0.0.0/4", "a reserved network"),
    )
)
# Of IPv6 only this is handed out for global use; exceptions inside it follow.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), words)
    for network, words in (
        ("2001::/23", "a reserved network"),  # Teredo, ORCHID, benchmarks
        ("2001:db8::/32", "a documentation network"),
        ("2620:4f:8000::/48", "a reserved network"),
        ("3fff::/20", "a documentation network"),
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)
_ENTRY = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>(?:\*\.)?[^\s/:@*\[\]]+))(?::(?P<port>\d{1,5}))?"
)
_REFUSED_NAMES = ("localhost", "metadata.google.internal", "metadata.goog", "metadata")


def address_refusal(address: Address) -> str | None:
    """What lies at ``address``, in words, if it isn't the public internet; else None.

    IPv6 forms that carry an IPv4 address (mapped, NAT64, 6to4, ISATAP) are judged by it.
    """
    if isinstance(address, IPv4Address):
        return next((words for net, words in _REFUSED_V4 if address in net), None)
    number = int(address)
    if address in _MAPPED or address in _NAT64:
        return address_refusal(IPv4Address(number & 0xFFFFFFFF))
    if address in _6TO4:
        return address_refusal(IPv4Address((number >> 80) & 0xFFFFFFFF))
    if address not in _GLOBAL_V6 or address.scope_id is not None:
        return "a private or link-local network"
    if (number >> 32) & 0xFFFFFFFF in _ISATAP_MARKS:
        return address_refusal(IPv4Address(number & 0xFFFFFFFF))
    return next((words for net, words in _REFUSED_V6 if address in net), None)


def literal_address(host: str) -> Address | None:
    """The address that ``host`` is, None if it is a name.

    Raises UrlRefused for the spellings that only some programs take for an address
    (``2130706433``, ``0x7f.1``, ``017700000001``, ``127.1``).
    """
    with contextlib.suppress(ValueError):
        return ip_address(host)
    try:
        socket.inet_aton(host)
    except (OSError, ValueError):
        return None
    raise UrlRefused(f"{host} is an unusual spelling of an address.", host=host)


class AllowList:
    """What an operator allows beyond the public internet.

    Entries: ``host``, ``host:port``, ``*.domain``, an IP address, ``ip:port`` (``[v6]:port``)
    or a network as ``10.0.0.0/8``. Raises ConfigurationError for anything else.
    """

    def __init__(self, entries: Sequence[str] = ()) -> None:
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[Network, int | None]] = []
        for entry in entries:
            if entry.strip():
                self._add(entry.strip())

    def _add(self, entry: str) -> None:
        with contextlib.suppress(ValueError):
            self._networks.append((ip_network(entry, strict=False), None))
            return
        match = _ENTRY.fullmatch(entry)
        try:
            if match is None:
                raise ValueError(entry)
            host: str = match["v6"] or match["host"]
            port = int(match["port"]) if match["port"] else None
            if match["v6"] or literal_address(host):
                self._networks.append((ip_network(host), port))
                return
            # yarl spells international names as it does in the URLs that are compared.
            name = URL.build(scheme="http", host=host.removeprefix("*.")).raw_host or ""
        except (ValueError, UrlRefused) as error:
            raise ConfigurationError(
                f"{entry!r} is not an entry for ATELIER_FETCH_ALLOW.",
                hint="Entries are host, host:port, *.domain, an IP address or a network "
                "such as 10.0.0.0/8; 0.0.0.0/0 allows every IPv4 address.",
            ) from error
        self._names.add((("*." if host.startswith("*.") else "") + _plain_name(name), port))

    def allows_name(self, host: str, port: int) -> bool:
        name = _plain_name(host)
        spellings = [name]
        while "." in name:
            name = name.partition(".")[2]
            spellings.append(f"*.{name}")
        return any((s, p) in self._names for s in spellings for p in (port, None))

    def allows_address(self, address: Address, port: int) -> bool:
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return any(
            (address in network or (mapped is not None and mapped in network))
            and allowed_port in (port, None)
            for network, allowed_port in self._networks
        )


class GuardedResolver(AbstractResolver):
    """Resolves names to those of their addresses that may be connected to."""

    def __init__(self, allow: AllowList, resolver: AbstractResolver | None = None) -> None:
        self._allow = allow
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises UrlRefused when no address is left, OSError when the name has none."""
        found = await self._resolver.resolve(host, port, family)
        if self._allow.allows_name(host, port):
            return found
        words: str | None = None
        allowed = []
        for result in found:
            address = ip_address(result["host"])
            refusal = address_refusal(address)
            if refusal is None or self._allow.allows_address(address, port):
                allowed.append(result)
            else:
                words = refusal
        if words is not None and not allowed:
            raise UrlRefused(f"{host} points to {words}.", host=host)
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


class GuardedSession:
    """One pool of connections to public addresses and those on the allow list."""

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        resolver: AbstractResolver | None = None,
        connect_timeout_seconds: float = 10,
        connections: int = 100,
        user_agent: str = "atelier",
    ) -> None:
        self._allow = AllowList(allow)
        self._inner_resolver = resolver
        self._connect_timeout_seconds = connect_timeout_seconds
        self._connections = connections
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._resolver = GuardedResolver(self._allow, self._inner_resolver)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver, use_dns_cache=False, limit=self._connections
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._connect_timeout_seconds, sock_read=None
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent},
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            await self._resolver.close()
            self._session = None

    def check(self, url: str | URL) -> URL:
        """``url`` parsed, if its form allows a request; names are judged when resolved.

        Raises UrlRefused: not http(s), credentials inside, no host, an address inside.
        """
        try:
            parsed = URL(url)
        except ValueError as error:
            raise UrlRefused(f"{shown(url)} is not a valid address.") from error
        if parsed.scheme not in ("http", "https"):
            raise UrlRefused(f"{shown(url)} is neither an http nor an https address.")
        host, port = parsed.raw_host, parsed.port
        if not host or not port or not host.isprintable() or " " in host:
            raise UrlRefused(f"{shown(url)} names no host.")
        if parsed.raw_user is not None or parsed.raw_password is not None:
            raise UrlRefused(
                "The address carries a user name or password.",
                hint="Remove what stands before the @; use a signed link instead.",
            )
        address = literal_address(host.replace("%25", "%"))
        if address is not None:
            refusal = address_refusal(address)
            if refusal and not self._allow.allows_address(address, port):
                raise UrlRefused(f"{host} is {refusal}.", host=host)
        elif _is_refused_name(host) and not self._allow.allows_name(host, port):
            raise UrlRefused(f"{host} is a name inside the network.", host=host)
        return parsed

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        total_seconds: float,
        headers: Callable[[URL], Mapping[str, str]] | None = None,
        data: bytes | None = None,
        max_redirects: int = MAX_REDIRECTS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer behind at most ``max_redirects`` redirects, its body not yet read.

        ``headers`` is asked for each address on the way, so that what is meant for one
        host is not told to another. Only GET and HEAD are redirected. The time runs until
        the block is left. Raises UrlRefused, or UrlUnreachable also for what goes wrong
        while the body is read inside the block.
        """
        if self._session is None:
            raise RuntimeError("GuardedSession is used outside of its `async with`")
        target = self.check(url)
        follows = max_redirects if method in ("GET", "HEAD") else 0
        with _translated(target, total_seconds):
            async with asyncio.timeout(total_seconds), contextlib.AsyncExitStack() as stack:
                for _ in range(follows + 1):
                    response = await self._session.request(
                        method,
                        target,
                        headers=headers(target) if headers else None,
                        data=data,
                        allow_redirects=False,
                    )
                    location = response.headers.get("Location")
                    if response.status not in REDIRECTS or not location or not follows:
                        stack.callback(response.close)
                        yield response
                        # A body that was read to its end has given its connection back.
                        return
                    response.release()
                    target = self.check(_joined(target, location))
                raise UrlRefused(
                    f"The address redirects more than {follows} times.",
                    hint="Give the address at the end of the redirects.",
                )


def shown(url: str | URL, limit: int = 120) -> str:
    """``url`` for a message: without credentials and query, shortened."""
    text = str(url).partition("?")[0].partition("#")[0]
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    text = scheme + separator + authority.rpartition("@")[2] + slash + path
    return text if len(text) <= limit else f"{text[:limit]}…"


def _joined(base: URL, location: str) -> URL:
    try:
        return base.join(URL(location))
    except ValueError as error:
        raise UrlRefused(f"{shown(base)} redirects to something that is no address.") from error


@contextlib.contextmanager
def _translated(url: URL, total_seconds: float) -> Iterator[None]:
    where = url.host
    try:
        yield
    except TimeoutError as error:
        raise UrlUnreachable(
            f"{where} did not deliver within {total_seconds:g} s.", host=where
        ) from error
    except aiohttp.InvalidURL as error:
        raise UrlRefused(f"{shown(url)} is not a valid address.") from error
    except aiohttp.ClientConnectorDNSError as error:
        raise UrlUnreachable(f"The name {where} can't be resolved.", host=where) from error
    except aiohttp.ClientConnectorError as error:
        raise UrlUnreachable(f"No connection to {where}.", host=where) from error
    except (aiohttp.ClientError, OSError) as error:
        raise UrlUnreachable(f"{where} broke off its answer.", host=where) from error


def _plain_name(host: str) -> str:
    return host.lower().rstrip(".")


def _is_refused_name(host: str) -> bool:
    name = _plain_name(host)
    return name in _REFUSED_NAMES or name.endswith(".localhost")
