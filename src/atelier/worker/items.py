"""What a prompt made, before it is kept anywhere."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import uuid_utils

from atelier.comfy.client import Finished
from atelier.comfy.protocol import FileRef, files_of, texts_of

MOST_PREVIEWS = 16  # kept beside the results of one job


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that the prompt made: a file at the instance, or bytes that came already.

    ``key`` is what it stands under in the node's output: images, gifs, text, ... ``id`` becomes
    the asset's, so that storing it again replaces what was stored before.
    """

    node: str
    filename: str
    key: str = "images"
    ref: FileRef | None = None
    data: bytes | None = None
    id: str = field(default_factory=lambda: str(uuid_utils.uuid7()), compare=False)


@dataclass(frozen=True, slots=True)
class Made:
    """What counts as the result of a run, and what was only shown on the way to it."""

    results: tuple[Item, ...]
    previews: tuple[Item, ...] = ()


def items_of(finished: Finished, counting: Collection[str]) -> Made:
    """What a run made, apart from what it showed.

    Results are the saved files (of type ``output``) of the nodes in ``counting``, of all nodes
    where that names none that delivered, in that order; where nothing was saved, what these
    nodes showed. Texts count either way. Where nobody has named an order, they come behind the
    files, and latents behind both.
    """
    named = [node for node in counting if node in finished.history_outputs]
    nodes = named or list(finished.history_outputs)
    saved: list[Item] = []
    shown: list[Item] = []
    texts: list[Item] = []
    latents: list[Item] = []
    seen: set[FileRef] = set()
    for node in nodes:
        output = finished.history_outputs[node]
        for key, ref in _new_files(output, seen):
            kept = latents if key == "latents" else saved
            item = Item(node, ref.filename, key, ref=ref)
            (kept if ref.type == "output" else shown).append(item)
        for number, text in enumerate(texts_of(output)):
            data = text.encode("utf-8", "replace")
            texts.append(Item(node, f"{number}.txt", "text", data=data))
    for number, (socket_node, picture) in enumerate(finished.websocket_images):
        if counting and socket_node is not None and socket_node not in counting:
            continue
        extension = picture.media_type.rpartition("/")[2]
        saved.append(Item(socket_node or "", f"{number}.{extension}", data=picture.image))
    is_saved = bool(saved or latents)
    results = [*saved, *(() if is_saved else shown), *texts, *latents]
    if named:
        places = {node: place for place, node in enumerate(named)}
        results.sort(key=lambda item: places.get(item.node, len(places)))
    aside = [
        Item(node, ref.filename, key, ref=ref)
        for node in finished.history_outputs
        if node not in nodes
        for key, ref in _new_files(finished.history_outputs[node], seen)
        if ref.type != "output"
    ]
    previews = [*(shown if is_saved else ()), *aside]
    return Made(tuple(results), tuple(previews[:MOST_PREVIEWS]))


def _new_files(output: Mapping[str, Any], seen: set[FileRef]) -> list[tuple[str, FileRef]]:
    """The files of a node that no node before it has named: viewers show what others saved."""
    files = [(key, ref) for key, ref in files_of(output) if ref not in seen]
    seen.update(ref for _, ref in files)
    return files
