"""The guard, on the public test vectors of SSRF guards and on servers of its own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from yarl import URL

from atelier.errors import ConfigurationError
from atelier.outbound import (
    AllowList,
    GuardedSession,
    UrlRefused,
    UrlUnreachable,
    address_refusal,
    shown,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeResolver(AbstractResolver):
    """Answers names from a table; several answers are given one after the other."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise OSError(f"no such name: {host}")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        yield server


async def get(session: GuardedSession, url: str, **options: int) -> bytes:
    async with session.request("GET", url, total_seconds=5, **options) as response:
        return await response.read()


async def hello(request: web.Request) -> web.Response:
    return web.Response(body=b"hello")


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",  # metadata of Alibaba Cloud
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",  # Azure's wire server, in public space
        "169.254.169.254",
        "169.254.170.2",  # credentials of ECS tasks
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",  # metadata of Oracle Cloud
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",  # IPv4-compatible
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",  # NAT64 for local use
        "100::1",
        "2001::1",  # Teredo
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::1",  # 6to4 of 127.0.0.1
        "2002:a9fe:a9fe::1",  # 6to4 of 169.254.169.254
        "2002:c0a8:101::1",  # 6to4 of 192.168.1.1
        "2a00:1450::5efe:10.0.0.1",  # ISATAP
        "2a00:1450::200:5efe:192.168.0.1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",  # metadata of AWS
        "fd12:3456:789a::1",
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "2a00:1450:4001::1%eth0",
    ],
)
def test_addresses_inside_are_refused(address: str) -> None:
    assert address_refusal(ip_address(address)) is not None


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
        "64:ff9b::8.8.8.8",  # networks without IPv4 reach the public internet this way
        "::ffff:8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert address_refusal(ip_address(address)) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.0.0.1:80/",
        "http://127.0.0.1./",
        "http://2130706433/",
        "http://017700000001/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://3232235777/",
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://[::]/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
        "http://[fe80::1%25eth0]/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://METADATA.google.internal./",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://anything.localhost/",
        "http://evil@127.0.0.1/",
        "http://user:password@pictures.example/",
        "http://user@pictures.example/",
        "http://foo@evil.example:80@pictures.example/",
        "http://1.1.1.1 &@2.2.2.2# @3.3.3.3/",
        "http://pictures.example\\@127.0.0.1/",
        "http://pictures.example:99999/",
        "http://pictures.example:0/",
        "http://a b/",
        "http://[::1",
        "http:///picture.png",
        "http:picture.png",
        "//pictures.example/a.png",
        "picture.png",
        "",
        "file:///etc/passwd",
        "ftp://pictures.example/a.png",
        "gopher://pictures.example/_",
        "dict://127.0.0.1:11211/stats",
        "jar:http://pictures.example!/",
        "javascript:alert(1)",
        "unix:///var/run/docker.sock",
    ],
)
async def test_these_urls_are_refused_without_asking_any_name_server(url: str) -> None:
    resolver = FakeResolver()
    async with GuardedSession(resolver=resolver) as session:
        with pytest.raises(UrlRefused) as caught:
            await get(session, url)
    assert resolver.asked == []
    assert caught.value.message
    assert caught.value.hint


async def test_a_name_that_points_inside_is_refused() -> None:
    resolver = FakeResolver(inside_example=[["10.0.0.1", "fd00::1"]])
    async with GuardedSession(resolver=resolver) as session:
        with pytest.raises(UrlRefused, match=r"inside\.example points to a private"):
            await get(session, "http://inside.example/")


async def test_a_refusal_does_not_tell_the_address_inside() -> None:
    resolver = FakeResolver(inside_example=[["10.11.12.13"]])
    async with GuardedSession(resolver=resolver) as session:
        with pytest.raises(UrlRefused) as caught:
            await get(session, "http://inside.example/")
    assert "10.11.12.13" not in repr(caught.value.as_dict())


async def test_of_mixed_addresses_only_the_allowed_are_connected_to() -> None:
    async with serve(hello) as server:
        resolver = FakeResolver(mixed_example=[["127.0.0.2", "127.0.0.1", "10.0.0.1"]])
        async with GuardedSession(["127.0.0.1"], resolver=resolver) as session:
            assert await get(session, f"http://mixed.example:{server.port}/") == b"hello"


async def test_a_name_that_changes_its_meaning_is_judged_by_the_address_connected_to() -> None:
    """Rebinding: public when first asked, inside when asked again."""
    reached: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(headers={"Connection": "close"})

    async with serve(handler) as server:
        # 127.0.0.2 stands for a public address: it is allowed here, and nobody listens there.
        resolver = FakeResolver(rebind_example=[["127.0.0.2"], ["127.0.0.1"]])
        async with GuardedSession(
            ["127.0.0.2"], resolver=resolver, connect_timeout_seconds=0.1
        ) as session:
            with pytest.raises(UrlUnreachable):
                await get(session, f"http://rebind.example:{server.port}/")
            assert resolver.asked == ["rebind.example"], "asked once per connection"
            with pytest.raises(UrlRefused):
                await get(session, f"http://rebind.example:{server.port}/")
    assert reached == []


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://localhost/",
        "http://inside.example/",
        "//inside.example/",
        "http://user:password@outside.example/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "http://[::1",
    ],
)
async def test_a_redirect_to_inside_is_refused(target: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target})

    async with serve(handler) as server:
        resolver = FakeResolver(outside_example=[["127.0.0.1"]], inside_example=[["192.168.1.1"]])
        async with GuardedSession([f"outside.example:{server.port}"], resolver=resolver) as session:
            with pytest.raises(UrlRefused):
                await get(session, f"http://outside.example:{server.port}/")


async def test_five_redirects_are_followed_and_six_are_not() -> None:
    async def handler(request: web.Request) -> web.Response:
        left = int(request.path.strip("/"))
        if left == 0:
            return web.Response(body=b"arrived")
        return web.Response(status=307, headers={"Location": f"/{left - 1}"})

    async with serve(handler) as server, GuardedSession(["127.0.0.1"]) as session:
        assert await get(session, str(server.make_url("/5"))) == b"arrived"
        with pytest.raises(UrlRefused, match="more than 5 times"):
            await get(session, str(server.make_url("/6")))


async def test_redirects_of_posts_are_not_followed() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://10.0.0.1/"})

    async with serve(handler) as server, GuardedSession(["127.0.0.1"]) as session:
        url = str(server.make_url("/"))
        async with session.request("POST", url, total_seconds=5, data=b"x") as response:
            assert response.status == 302


async def test_what_is_meant_for_one_host_is_not_told_to_the_next() -> None:
    seen: dict[str, str | None] = {}

    async def handler(request: web.Request) -> web.Response:
        seen[request.path] = request.headers.get("X-Secret")
        if request.path == "/first":
            return web.Response(status=302, headers={"Location": "/second"})
        return web.Response()

    def headers(url: URL) -> dict[str, str]:
        return {"X-Secret": "s"} if url.path == "/first" else {}

    async with (
        serve(handler) as server,
        GuardedSession(["127.0.0.1"]) as session,
        session.request(
            "GET", str(server.make_url("/first")), total_seconds=5, headers=headers
        ) as response,
    ):
        assert response.status == 200
    assert seen == {"/first": "s", "/second": None}


async def test_connections_are_kept_and_used_again() -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=b"x" * 100_000)

    async with serve(handler) as server, GuardedSession(["127.0.0.1"]) as session:
        for _ in range(3):
            await get(session, str(server.make_url("/")))
    assert len(peers) == 1


async def test_a_server_that_trickles_is_given_up_after_the_total_time() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await response.write(b"x")
                await asyncio.sleep(0.02)
        return response

    async with serve(handler) as server, GuardedSession(["127.0.0.1"]) as session:
        with pytest.raises(UrlUnreachable, match=r"within 0\.2 s"):
            async with session.request(
                "GET", str(server.make_url("/")), total_seconds=0.2
            ) as response:
                await response.read()


async def test_nobody_listening_and_unknown_names_are_worth_another_try() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        async with GuardedSession(["127.0.0.1"], resolver=FakeResolver()) as session:
            with pytest.raises(UrlUnreachable, match="No connection") as refused:
                await get(session, f"http://127.0.0.1:{port}/")
            with pytest.raises(UrlUnreachable, match="can't be resolved") as unknown:
                await get(session, "http://nowhere.example/")
    assert refused.value.retryable
    assert unknown.value.retryable


async def test_cancelling_passes_through() -> None:
    arrived = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.sleep(60)
        return web.Response()

    async with serve(handler) as server, GuardedSession(["127.0.0.1"]) as session:
        task = asyncio.create_task(get(session, str(server.make_url("/"))))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serve(hello) as server, GuardedSession(["127.0.0.1"]) as session:
        assert await get(session, str(server.make_url("/"))) == b"hello"


@pytest.mark.parametrize(
    ("entry", "url", "is_allowed"),
    [
        ("127.0.0.1", "http://127.0.0.1/", True),
        ("127.0.0.1", "http://127.0.0.2/", False),
        ("127.0.0.1:8188", "http://127.0.0.1:8188/", True),
        ("127.0.0.1:8188", "http://127.0.0.1:8189/", False),
        ("127.0.0.1:80", "http://127.0.0.1/", True),
        ("127.0.0.1:443", "https://127.0.0.1/", True),
        ("10.0.0.0/8", "http://10.1.2.3:9000/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", True),  # public anyway
        ("10.0.0.0/8", "http://[::ffff:10.1.2.3]/", True),
        ("10.0.0.0/8", "http://192.168.1.1/", False),
        ("::1", "http://[::1]/", True),
        ("[::1]", "http://[::1]/", True),
        ("[::1]:8000", "http://[::1]:8000/", True),
        ("[::1]:8000", "http://[::1]:8001/", False),
        ("fd00::/8", "http://[fd12::1]/", True),
        ("localhost", "http://localhost:5000/", True),
        ("LocalHost.", "http://LOCALHOST/", True),
        ("localhost:80", "http://localhost:5000/", False),
        ("*.localhost", "http://a.localhost/", True),
        ("*.localhost", "http://a.b.localhost/", True),
        ("*.localhost", "http://localhost/", False),
        ("localhost", "http://a.localhost/", False),
        ("localhost", "http://127.0.0.1/", False),
        # The allow list opens addresses, not spellings.
        ("127.0.0.1", "http://2130706433/", False),
        ("127.0.0.1", "http://user@127.0.0.1/", False),
        ("127.0.0.1", "ftp://127.0.0.1/", False),
    ],
)
async def test_the_allow_list_opens_what_it_names(entry: str, url: str, is_allowed: bool) -> None:
    session = GuardedSession([entry])
    if is_allowed:
        assert session.check(url).scheme in ("http", "https")
    else:
        with pytest.raises(UrlRefused):
            session.check(url)


async def test_an_allowed_name_may_point_inside_on_its_port_only() -> None:
    async with serve(hello) as server:
        resolver = FakeResolver(nas_example=[["127.0.0.1"]])
        async with GuardedSession([f"nas.example:{server.port}"], resolver=resolver) as session:
            assert await get(session, f"http://NAS.example:{server.port}/") == b"hello"
            with pytest.raises(UrlRefused):
                await get(session, "http://nas.example:81/")


def test_an_international_name_is_compared_as_it_is_sent() -> None:
    assert AllowList(["bücher.example"]).allows_name("xn--bcher-kva.example", 80)


@pytest.mark.parametrize(
    "entry",
    ["http://nas", "nas/path", "*", "n*s", "nas:port", "user@nas", "a b", "10.0.0.0/99", "0x7f.1"],
)
def test_an_entry_that_means_nothing_stops_the_start(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="ATELIER_FETCH_ALLOW"):
        AllowList([entry])


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://pictures.example/a.png?signature=secret#x", "http://pictures.example/a.png"),
        ("http://user:password@pictures.example/a", "http://pictures.example/a"),
        ("data:image/png;base64," + "A" * 500, "data:image/png;base64," + "A" * 98 + "…"),
    ],
)
def test_messages_show_no_secrets(url: str, text: str) -> None:
    assert shown(url) == text
