"""What inputs and nodes are called: titles in our languages, and titles that somebody chose."""

import re
from collections.abc import Mapping
from typing import Any, Final

from atelier.comfy.object_info import ObjectInfo

_TITLES: Final[Mapping[str, tuple[str, str, str]]] = {
    "prompt": ("Prompt", "提示词", "提示詞"),
    "negative_prompt": ("Negative prompt", "反向提示词", "反向提示詞"),
    "image": ("Image", "图片", "圖片"),
    "mask": ("Mask", "蒙版", "遮罩"),
    "size": ("Size", "尺寸", "尺寸"),
    "width": ("Width", "宽度", "寬度"),
    "height": ("Height", "高度", "高度"),
    "batch_size": ("Number of images", "图片数量", "圖片數量"),
    "length": ("Frames", "帧数", "影格數"),
    "fps": ("Frames per second", "帧率", "影格率"),
    "seed": ("Seed", "种子", "種子"),
    "steps": ("Steps", "步数", "步數"),
    "cfg": ("Prompt strength (CFG)", "提示词强度 (CFG)", "提示詞強度 (CFG)"),
    "guidance": ("Guidance", "引导强度", "引導強度"),
    "denoise": ("Denoise", "重绘幅度", "重繪幅度"),
    "model": ("Model", "模型", "模型"),
    "lora": ("LoRA", "LoRA", "LoRA"),
    "vae": ("VAE", "VAE", "VAE"),
    "controlnet": ("ControlNet", "ControlNet", "ControlNet"),
    "text_encoder": ("Text encoder", "文本编码器", "文字編碼器"),
    "upscale_model": ("Upscale model", "放大模型", "放大模型"),
    "style_model": ("Style model", "风格模型", "風格模型"),
}

# What the editor calls nodes whose name isn't simply their class's.
_DISPLAY_NAMES: Final[Mapping[str, str]] = {
    "CLIPTextEncode": "CLIP Text Encode (Prompt)",
    "CheckpointLoader": "Load Checkpoint With Config (DEPRECATED)",
    "CheckpointLoaderSimple": "Load Checkpoint",
    "CLIPLoader": "Load CLIP",
    "CLIPVisionLoader": "Load CLIP Vision",
    "ControlNetLoader": "Load ControlNet Model",
    "DiffControlNetLoader": "Load ControlNet Model (diff)",
    "ImageOnlyCheckpointLoader": "Image Only Checkpoint Loader (img2vid model)",
    "LoadImageMask": "Load Image (as Mask)",
    "LoraLoader": "Load LoRA",
    "PrimitiveStringMultiline": "String (Multiline)",
    "PrimitiveBoolean": "Boolean",
    "PrimitiveFloat": "Float",
    "PrimitiveInt": "Int",
    "PrimitiveString": "String",
    "StyleModelLoader": "Load Style Model",
    "UNETLoader": "Load Diffusion Model",
    "UpscaleModelLoader": "Load Upscale Model",
    "VAELoader": "Load VAE",
}


def title_of(kind: str) -> dict[str, str] | str:
    """Return the title of a kind of input in every language, else its name as words."""
    known = _TITLES.get(kind)
    if known is not None:
        return dict(zip(("en", "zh-Hans", "zh-Hant"), known, strict=True))
    return as_words(kind)


def as_words(name: str) -> str:
    """``photo_to_clay`` as ``Photo to clay``."""
    words = re.sub(r"[_\-.\s]+", " ", name).strip()
    return words[:1].upper() + words[1:]


def slug(title: str) -> str:
    """Return ``title`` as a name: lower case with underscores; empty if nothing is left."""
    return re.sub(r"\W+", "_", title.lower()).strip("_")


def node_title(node: Mapping[str, Any]) -> str:
    """Return what the editor shows above a node, where the graph tells it."""
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title.strip() if isinstance(title, str) else ""


def own_title(node: Mapping[str, Any], object_info: ObjectInfo | None = None) -> str:
    """Return the title that somebody gave to a node; empty where it is the editor's own."""
    title, class_type = node_title(node), node["class_type"]
    info = object_info.node(class_type) if object_info is not None else None
    names = {class_type, _DISPLAY_NAMES.get(class_type, ""), info.display_name if info else ""}
    plain = {re.sub(r"\W+", "", name.lower()) for name in names}
    return "" if re.sub(r"[\W_]+", "", title.lower()) in plain else title
