"""Any of the stores by its address, and whether it can work."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

from atelier.errors import ConfigurationError, StorageError
from atelier.storage.cloudflare_images import CloudflareImages
from atelier.storage.objects import URL_SECONDS, open_store
from atelier.storage.store import Store

log = structlog.get_logger(__name__)

CHECK_SECONDS = 15.0


@asynccontextmanager
async def opened_store(
    url: str,
    options: Mapping[str, str],
    *,
    public_url: str | None = None,
    url_seconds: int = URL_SECONDS,
    companion: Callable[[], Store],
    elsewhere: Callable[[str], bool],
) -> AsyncIterator[Store]:
    """The store that ``url`` names, not yet contacted. Raises ConfigurationError.

    As for ``open_store``, or ``cf-images://ACCOUNT``: that one has a ``companion``, which gets
    the keys that ``elsewhere`` tells too.
    """
    if not url.startswith("cf-images://"):
        yield open_store(url, public_url=public_url, url_seconds=url_seconds, **options)
        return
    async with CloudflareImages.of_url(
        url, companion=companion(), elsewhere=elsewhere, **options
    ) as store:
        yield store


async def check_store(store: Store) -> None:
    """Raise ConfigurationError where the store can't work with what it was told.

    One that is away for now is waited for by the jobs that need it.
    """
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await store.check()
    except StorageError as error:
        if not error.retryable:
            raise ConfigurationError(error.message, hint=error.hint) from error
        log.warning("the store is away", reason=error.message, hint=error.hint)
    except TimeoutError:
        log.warning("the store is away", reason=f"no answer within {CHECK_SECONDS:.0f} s")
