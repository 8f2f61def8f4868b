"""What a job needs, kept by hash and understood again elsewhere."""

import orjson

from atelier.service.capabilities import Capabilities, parse_requirement, requirement_of
from atelier.workflows.library import Alternative, ModelNeed

NEED = ModelNeed(
    class_type="CheckpointLoaderSimple",
    input="ckpt_name",
    folder="checkpoints",
    name=None,
    prefer=("*xl*",),
)
DIFFUSION = Alternative(
    variant="diffusion", classes=frozenset({"KSampler", "VAEDecode"}), models=(NEED,)
)
CLASSIC = Alternative(variant="classic", classes=frozenset({"AtelierStylise"}), models=())


def test_requirement_survives_the_database():
    requirement = requirement_of([DIFFUSION, CLASSIC])
    body = orjson.loads(orjson.dumps(requirement.body()))
    assert parse_requirement(requirement.hash, body) == requirement


def test_equal_needs_have_equal_hashes():
    assert requirement_of([DIFFUSION]).hash == requirement_of([DIFFUSION]).hash
    assert requirement_of([DIFFUSION]).hash != requirement_of([DIFFUSION, CLASSIC]).hash
    # The order is the preference.
    assert requirement_of([CLASSIC, DIFFUSION]).hash != requirement_of([DIFFUSION, CLASSIC]).hash


class Instance:
    def __init__(self, id, info):
        self.id = id
        self.object_info = info


def test_instance_that_has_not_answered_can_run_nothing():
    capabilities = Capabilities()
    requirement = requirement_of([CLASSIC])
    capabilities.remember(requirement)
    instance = Instance("a", None)
    assert not capabilities.can_run(instance, requirement.hash)
    assert "a" in capabilities.missing(instance, CLASSIC)[0]


def test_hash_that_nobody_remembered_can_not_be_run():
    assert not Capabilities().can_run(Instance("a", None), "0" * 32)
