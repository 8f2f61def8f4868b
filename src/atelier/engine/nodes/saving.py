"""Nodes that hand pictures to the client: as files, or over the WebSocket."""

import json
import secrets
import time
from typing import Any

from atelier.engine.folders import Folders, write_atomically
from atelier.engine.nodes.node import IMAGE, MASK, Context, Floats, Input, NodeClass, Output
from atelier.engine.nodes.pictures import encode_png, to_bytes
from atelier.engine.nodes.resample import flatten_masks

_METADATA = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
_DESCRIPTION = "Saves the input images to your ComfyUI output directory."
# Temp files of one engine share a name that no other engine on the same folder has.
_TEMP_PREFIX = f"ComfyUI_temp_{secrets.token_hex(3)}"


def _save(context: Context, images: Floats, filename_prefix: str) -> Output:
    return _write(context, images, "output", filename_prefix, compress_level=4)


def _preview(context: Context, images: Floats) -> Output:
    return _write(context, images, "temp", _TEMP_PREFIX, compress_level=1)


def _preview_mask(context: Context, mask: Floats) -> Output:
    pictures = flatten_masks(mask)[..., None].repeat(3, axis=3)
    return _write(context, pictures, "temp", _TEMP_PREFIX, compress_level=4)


def _write(
    context: Context, images: Floats, kind: str, prefix: str, *, compress_level: int
) -> Output:
    height, width = images.shape[1:3]
    slot = context.folders.next_slot(kind, prefix, width, height, len(images))
    text = {"prompt": json.dumps(context.prompt)}
    text |= {name: json.dumps(value) for name, value in context.extra_pnginfo.items()}
    files = []
    for number, image in enumerate(images):
        context.check_interrupted()
        name = slot.filename(number)
        data = encode_png(to_bytes(image), compress_level=compress_level, text=text)
        write_atomically(slot.directory / name, data)
        files.append({"filename": name, "subfolder": slot.subfolder, "type": kind})
    return Output(ui={"images": files})


def _send(context: Context, images: Floats) -> Output:
    for number, image in enumerate(images):
        context.progress(number, len(images), to_bytes(image))
    return Output()


def _never_the_same(folders: Folders, **_: Any) -> str:
    return str(time.monotonic_ns())


NODES = (
    NodeClass(
        name="SaveImage",
        display_name="Save Image",
        category="image",
        description=_DESCRIPTION,
        required={
            "images": Input("IMAGE", {"tooltip": "The images to save."}),
            "filename_prefix": Input(
                "STRING",
                {
                    "default": "ComfyUI",
                    "tooltip": (
                        "The prefix for the file to save. This may include formatting information "
                        "such as %date:yyyy-MM-dd% or %Empty Latent Image.width% to include values "
                        "from nodes."
                    ),
                },
            ),
        },
        hidden=_METADATA,
        outputs=(),
        output_node=True,
        run=_save,
        contextual=True,
    ),
    NodeClass(
        name="PreviewImage",
        display_name="Preview Image",
        category="image",
        description=_DESCRIPTION,
        required={"images": IMAGE},
        hidden=_METADATA,
        outputs=(),
        output_node=True,
        run=_preview,
        contextual=True,
    ),
    NodeClass(
        name="MaskPreview",
        category="mask",
        module="comfy_extras.nodes_mask",
        description=_DESCRIPTION,
        required={"mask": MASK},
        hidden=_METADATA,
        outputs=(),
        output_node=True,
        run=_preview_mask,
        contextual=True,
    ),
    NodeClass(
        name="SaveImageWebsocket",
        category="api/image",
        module="custom_nodes.websocket_image_save",
        required={"images": IMAGE},
        outputs=(),
        output_node=True,
        run=_send,
        contextual=True,
        fingerprint=_never_the_same,
    ),
)
