"""The result cache: what was made before answers for the same graph, inputs and seed.

A job that is answered so gets assets of its own, which share the files of the earlier ones: each
job's outputs come and go with it, and a file goes with the last asset that is kept under it.
"""

import hashlib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
import uuid_utils

from atelier.jobs.job import Job, NewJob, Recalled
from atelier.jobs.queue import JobQueue
from atelier.media.asset import Asset
from atelier.media.catalog import Catalog
from atelier.service.planning import Plan, is_picture

_FORM = 1  # of the key: jobs of a version that makes another outputs from the same get a new one


@dataclass(frozen=True, slots=True)
class Recollection:
    """What an earlier job made, and the assets to be recorded for the job that gets it now."""

    recalled: Recalled
    assets: tuple[Asset, ...]


def cache_key(
    plan: Plan,
    *,
    user: str,
    pictures: Mapping[str, str],
    conversion: Mapping[str, Any] | None,
) -> str:
    """Equal where equal outputs are to be expected: of the graph with everything written into it.

    ``pictures`` are the inputs that name one, each by the SHA-256 of its bytes.
    """
    inputs = {**plan.inputs, **{name: {"sha256": value} for name, value in pictures.items()}}
    graph = {id: [node["class_type"], node["inputs"]] for id, node in plan.graph(inputs).items()}
    what = [_FORM, user, graph, plan.counting, conversion]
    option = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.sha256(orjson.dumps(what, option=option)).hexdigest()


async def answer(
    conn: Any,
    queue: JobQueue,
    catalog: Catalog,
    new: NewJob,
    plan: Plan | None,
    *,
    hashes: Mapping[str, str],
    ids: MutableMapping[str, str],
) -> tuple[Job, bool] | None:
    """Record ``new`` as answered by an earlier job; None where it has to be queued.

    ``hashes`` are those of assets that came with it. What is behind an address is known only
    when it has been fetched: then the worker looks again. ``ids`` as for ``recall``.
    """
    refs = {name: value for name, value in new.inputs.items() if is_picture(value)}
    if plan is None or any("url" in ref for ref in refs.values()):
        return None
    others = {ref["asset"] for ref in refs.values()} - hashes.keys()
    kept = await catalog.get_many(conn, others)
    known = {**hashes, **{id: asset.sha256 for id, asset in kept.items()}}
    if any(ref["asset"] not in known for ref in refs.values()):
        return None
    pictures = {name: known[ref["asset"]] for name, ref in refs.items()}
    key = cache_key(plan, user=new.user, pictures=pictures, conversion=new.conversion)
    found = await recall(conn, queue, catalog, key, job=new.id, ids=ids)
    if found is None:
        return None
    job, created = await queue.insert_recalled(conn, new, found.recalled, key)
    if created:
        await catalog.insert(conn, found.assets)
    return job, created


async def recall(
    conn: Any,
    queue: JobQueue,
    catalog: Catalog,
    key: str,
    *,
    job: str,
    ids: MutableMapping[str, str],
) -> Recollection | None:
    """What an earlier job made of what ``key`` stands for, made ready for ``job``.

    The caller records it in the same transaction, before which nothing of it can be swept.
    ``ids`` keeps the new assets' ids, so that a repeated transaction gives them again.
    """
    for source in await queue.made_before(conn, key, unlike=job):
        made = {asset.id: asset for asset in await catalog.made_by(conn, source.id)}
        if not all(record["id"] in made for record in source.outputs):
            continue  # some are swept already
        previews = [record for record in source.previews if record["id"] in made]
        for id in made:
            ids.setdefault(id, str(uuid_utils.uuid7()))
        return Recollection(
            Recalled(
                cached_from=source.cached_from or source.id,
                outputs=tuple({**record, "id": ids[record["id"]]} for record in source.outputs),
                previews=tuple({**record, "id": ids[record["id"]]} for record in previews),
                variant=source.variant,
            ),
            tuple(replace(asset, id=ids[id], job=job) for id, asset in made.items()),
        )
    return None
