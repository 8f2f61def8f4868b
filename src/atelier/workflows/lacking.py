"""What an instance must be given before it can run a variant, and where that goes. Pure."""

from dataclasses import dataclass
from typing import Any, Final

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.manifest import Variant
from atelier.workflows.needs import ModelFile, NodePackage
from atelier.workflows.requirement import Alternative, ModelNeed

_SHOWN: Final = 3  # an instance without a core has a hundred nodes to name


@dataclass(frozen=True, slots=True)
class Lacking:
    """``classes`` are nodes of no known package, ``others`` in words models of no known origin."""

    models: tuple[ModelFile, ...] = ()
    packages: tuple[NodePackage, ...] = ()
    classes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    comfyui: str | None = None

    def __bool__(self) -> bool:
        return bool(self.models or self.packages or self.classes or self.others)

    @property
    def weight(self) -> float:
        """How much there is to be installed, in GiB, the unknown estimated."""
        files = sum(model.size_gib or 5 for model in self.models) + 5 * len(self.others)
        return files + len(self.packages) + 20 * bool(self.classes)

    def in_words(self) -> str:
        words = [f"the model {model.path}" for model in self.models]
        words += [f"the custom nodes {pack.path} ({pack.url})" for pack in self.packages]
        words += self.others
        words += [f"the node {name}" for name in self.classes[:_SHOWN]]
        if len(self.classes) > _SHOWN:
            words.append(f"{len(self.classes) - _SHOWN} more nodes")
        if self.classes and self.comfyui:
            words[-1] += f" (ComfyUI {self.comfyui} or newer has them)"
        return ", ".join(words)

    def as_dict(self) -> dict[str, Any]:
        """The JSON-able form: everything with its path and its publisher's address."""
        return {
            "models": [model_json(model) for model in self.models],
            "custom_nodes": [package_json(pack) for pack in self.packages],
            "nodes": list(self.classes),
            "others": list(self.others),
            "comfyui": self.comfyui,
        }


def lacking(variant: Variant, alternative: Alternative, object_info: ObjectInfo) -> Lacking:
    """Return what of ``alternative``, which is ``variant``, is not at the instance."""
    absent = alternative.classes - object_info.nodes.keys()
    packages = tuple(pack for pack in variant.needs.nodes if absent & set(pack.classes))
    packaged = {name for pack in packages for name in pack.classes}
    models: list[ModelFile] = []
    others: list[str] = []
    for need in alternative.models:
        if need.class_type in object_info.nodes:
            spec = object_info.nodes[need.class_type].inputs.get(need.input)
            if spec is None or spec.choices is None:
                continue
            files = object_info.choices(need.class_type, need.input)
        else:
            files = object_info.model_files(need.folder)
        if need.best_of(files) is not None:
            continue
        known = _known(need, variant)
        if known is not None:
            models.append(known)
        else:
            where = need.folder or f"{need.class_type}.{need.input}"
            others.append(
                f"the model {need.name} in {where}" if need.name else f"any model in {where}"
            )
    return Lacking(
        tuple(dict.fromkeys(models)),
        packages,
        tuple(sorted(absent - packaged)),
        tuple(dict.fromkeys(others)),
        variant.needs.comfyui,
    )


def model_json(model: ModelFile) -> dict[str, Any]:
    return {
        "folder": model.folder,
        "file": model.file,
        "path": model.path,
        "url": model.url,
        "size_gib": model.size_gib,
        "match": list(model.match),
        "input": model.input,
    }


def package_json(pack: NodePackage) -> dict[str, Any]:
    return {
        "package": pack.package,
        "url": pack.url,
        "path": pack.path,
        "classes": list(pack.classes),
    }


def _known(need: ModelNeed, variant: Variant) -> ModelFile | None:
    for model in variant.needs.models:
        if model.folder == need.folder and need.name in (None, model.file):
            return model
    return None
