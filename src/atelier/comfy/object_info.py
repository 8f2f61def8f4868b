"""What one instance can run: node classes, their inputs, and the model files that it has."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atelier.comfy.protocol import ProtocolError

# Core loaders by the folder below models/ that they read; the first gives the folder's files.
LOADERS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "checkpoints": (
        ("CheckpointLoaderSimple", "ckpt_name"),
        ("CheckpointLoader", "ckpt_name"),
        ("unCLIPCheckpointLoader", "ckpt_name"),
        ("ImageOnlyCheckpointLoader", "ckpt_name"),
    ),
    "diffusion_models": (("UNETLoader", "unet_name"),),
    "loras": (("LoraLoader", "lora_name"), ("LoraLoaderModelOnly", "lora_name")),
    "vae": (("VAELoader", "vae_name"),),
    "text_encoders": (
        ("CLIPLoader", "clip_name"),
        ("DualCLIPLoader", "clip_name1"),
        ("DualCLIPLoader", "clip_name2"),
        ("TripleCLIPLoader", "clip_name1"),
        ("TripleCLIPLoader", "clip_name2"),
        ("TripleCLIPLoader", "clip_name3"),
        ("QuadrupleCLIPLoader", "clip_name1"),
        ("QuadrupleCLIPLoader", "clip_name2"),
        ("QuadrupleCLIPLoader", "clip_name3"),
        ("QuadrupleCLIPLoader", "clip_name4"),
    ),
    "clip_vision": (("CLIPVisionLoader", "clip_name"),),
    "controlnet": (
        ("ControlNetLoader", "control_net_name"),
        ("DiffControlNetLoader", "control_net_name"),
    ),
    "upscale_models": (("UpscaleModelLoader", "model_name"),),
    "style_models": (("StyleModelLoader", "style_model_name"),),
    "gligen": (("GLIGENLoader", "gligen_name"),),
    "hypernetworks": (("HypernetworkLoader", "hypernetwork_name"),),
    "photomaker": (("PhotoMakerLoader", "photomaker_model_name"),),
    "audio_encoders": (("AudioEncoderLoader", "audio_encoder_name"),),
    "model_patches": (("ModelPatchLoader", "name"),),
    "diffusers": (("DiffusersLoader", "model_path"),),
}

_FOLDERS: Final = {loader: folder for folder, loaders in LOADERS.items() for loader in loaders}

# Widgets that list the instance's input folder: their choices change with every upload.
_UPLOADS: Final = ("image_upload", "video_upload", "audio_upload", "file_upload")


def model_folder(class_type: str, input_name: str) -> str | None:
    """Return the folder whose files this input takes, or None if it takes no model file."""
    return _FOLDERS.get((class_type, input_name))


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a node class.

    ``type`` is ComfyUI's (INT, FLOAT, STRING, BOOLEAN, COMBO, IMAGE, ...; several may be joined by
    commas, ``*`` takes any). ``choices`` is None unless the type is COMBO and the list is known.
    """

    name: str
    type: str
    required: bool
    choices: tuple[Any, ...] | None = None
    default: Any = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uploaded(self) -> bool:
        """True if it names a file of the input folder, so that ``choices`` soon goes stale."""
        return any(self.options.get(key) for key in _UPLOADS)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node class; ``inputs`` in the order of its widgets, hidden ones left out."""

    class_type: str
    inputs: Mapping[str, InputSpec]
    outputs: tuple[str, ...]
    output_node: bool
    display_name: str = ""
    category: str = ""
    output_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Everything that ``GET /object_info`` tells.

    ``revision`` changes when what can be run changes, not with files uploaded as input.
    """

    nodes: Mapping[str, NodeInfo]
    revision: str

    @classmethod
    def parse(cls, body: Any) -> "ObjectInfo":
        """Return what ``body`` tells; what a custom node describes wrongly is left out.

        Raises ProtocolError if it is no object of objects.
        """
        if not isinstance(body, Mapping):
            raise ProtocolError("/object_info did not answer with an object.")
        nodes = {
            class_type: _node(class_type, node)
            for class_type, node in body.items()
            if isinstance(node, Mapping)
        }
        if body and not nodes:
            raise ProtocolError("/object_info did not describe any node.")
        return cls(nodes, _revision(nodes))

    @property
    def classes(self) -> frozenset[str]:
        return frozenset(self.nodes)

    def node(self, class_type: str) -> NodeInfo | None:
        return self.nodes.get(class_type)

    def as_body(self) -> dict[str, Any]:
        """What ``parse`` makes the same of again, in the shape of ``GET /object_info``."""
        return {node.class_type: _node_body(node) for node in self.nodes.values()}

    def choices(self, class_type: str, input_name: str) -> tuple[str, ...]:
        """Return what the input can be chosen from; empty if that is not known."""
        node = self.nodes.get(class_type)
        spec = node.inputs.get(input_name) if node else None
        return tuple(str(choice) for choice in spec.choices or ()) if spec else ()

    def model_files(self, folder: str) -> tuple[str, ...]:
        """Return the files in a folder below ``models/``, as loaders name them.

        Empty where there are none, where no core loader reads that folder, or where it is absent.
        """
        for class_type, input_name in LOADERS.get(folder, ()):
            if class_type in self.nodes:
                return self.choices(class_type, input_name)
        return ()


def _node(class_type: str, node: Mapping[str, Any]) -> NodeInfo:
    return NodeInfo(
        class_type,
        {spec.name: spec for spec in input_specs(node)},
        tuple(_type(output) for output in _listed(node.get("output"))),
        bool(node.get("output_node")),
        str(node.get("display_name") or class_type),
        str(node.get("category") or ""),
        tuple(str(name) for name in _listed(node.get("output_name"))),
    )


def _node_body(node: NodeInfo) -> dict[str, Any]:
    sections: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
    for spec in node.inputs.values():
        listed = spec.type == "COMBO" and spec.choices is not None
        # Choices that stand among the options are read from there again.
        head = list(spec.choices or ()) if listed and "options" not in spec.options else spec.type
        section = sections["required" if spec.required else "optional"]
        section[spec.name] = [head, dict(spec.options)]
    return {
        "input": sections,
        "output": list(node.outputs),
        "output_name": list(node.output_names),
        "output_node": node.output_node,
        "display_name": node.display_name,
        "category": node.category,
    }


def input_specs(node: Mapping[str, Any]) -> Iterator[InputSpec]:
    """Yield the inputs of one class as /object_info has it: required ones, then optional ones."""
    sections = node.get("input")
    order = node.get("input_order")
    if not isinstance(sections, Mapping):
        return
    for section in ("required", "optional"):
        specs = sections.get(section)
        if not isinstance(specs, Mapping):
            continue
        ordered = order.get(section) if isinstance(order, Mapping) else None
        names = [*dict.fromkeys([*(name for name in _listed(ordered) if name in specs), *specs])]
        for name in names:
            yield _input(name, specs[name], required=section == "required")


def _input(name: str, spec: Any, *, required: bool) -> InputSpec:
    head, options = spec, {}
    if isinstance(spec, list | tuple) and spec:
        head = spec[0]
        if len(spec) > 1 and isinstance(spec[1], Mapping):
            options = dict(spec[1])
    choices: tuple[Any, ...] | None = None
    if isinstance(head, list | tuple):
        choices = tuple(head)
    elif isinstance(options.get("options"), list | tuple):
        # Newer nodes may describe each option by an object whose key is what the graph holds.
        choices = tuple(
            option["key"] if isinstance(option, Mapping) and "key" in option else option
            for option in options["options"]
        )
    if not choices and options.get("remote"):
        choices = None
    return InputSpec(
        name,
        _type(head),
        required,
        choices,
        options.get("default"),
        _number(options.get("min")),
        _number(options.get("max")),
        _number(options.get("step")),
        options,
    )


def _type(head: Any) -> str:
    return "COMBO" if isinstance(head, list | tuple) else str(head)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _revision(nodes: Mapping[str, NodeInfo]) -> str:
    described = {
        node.class_type: [
            [
                [
                    i.name,
                    i.type,
                    i.required,
                    None if i.uploaded else i.choices,
                    i.min,
                    i.max,
                    i.step,
                ]
                for i in node.inputs.values()
            ],
            node.outputs,
            node.output_node,
        ]
        for node in nodes.values()
    }
    text = json.dumps(described, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
