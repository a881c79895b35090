"""A world's way to the Hub: the whole folder in one commit, and further forms of its weights beside it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from gamengen.hub.repository import HubConfig, open_repository, push, resolve
from gamengen.hub.world_card import CARD_FILE, FACTS_FILE, PIPELINE_FILE, PREVIEW_FILE
from gamengen.manifest import MANIFEST_FILE, write_manifest

VARIANTS = {"fp16": torch.float16, "bf16": torch.bfloat16}
EDITABLE = (CARD_FILE, FACTS_FILE, PIPELINE_FILE, PREVIEW_FILE)
"""Not in the manifest: a card may be edited on the Hub."""


def push_world(
    pipeline: Any, repo_id: str, *, private: bool = False, token: str | None = None, variant: str | None = None,
    message: str = "Upload world", beside: Path | None = None,
) -> str:  # fmt: skip
    """Upload a pipeline's world folder in one commit; what was in the repository before goes.

    Args:
        pipeline: a `GameNGenPipeline`.
        repo_id: `owner/name`, or `name` for one of your own; made when it does not exist.
        variant: add weights of this form to those of the same world that are there already.
        beside: a folder that goes up too, under its own name, such as a checkpoint.
    Returns:
        The commit's address.
    Raises:
        PermissionError, ConnectionError: in one sentence.
        ValueError: an unknown variant, or one of another world than is there.
    """
    if variant is not None and variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}: expected one of: {', '.join(VARIANTS)}")
    config = HubConfig(push_to_hub=True, hub_model_id=repo_id, hub_private_repo=private, hub_token=token)
    full_id = open_repository(config, "model", repo_id)
    assert full_id is not None
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world"
        if variant is None:
            pipeline.save_pretrained(world, repo_id=full_id)
        else:
            rounded = pipeline.in_dtype(VARIANTS[variant])
            there = resolve(full_id, token=token)
            _check_same(rounded, type(pipeline).from_pretrained(there).in_dtype(VARIANTS[variant]), full_id)
            rounded.save_pretrained(world, repo_id=full_id, variant=variant)
            _complete(world, there)
        if beside is not None:
            shutil.copytree(beside, world / beside.name)
        return push(world, full_id, message=message, replace=["*"], token=token)


def _check_same(ours: Any, theirs: Any, repo_id: str) -> None:
    """Weights of another training beside these would be another world under the same name."""
    for name in ("unet", "vae"):
        left, right = getattr(ours, name).state_dict(), getattr(theirs, name).state_dict()
        if left.keys() != right.keys() or not all(torch.equal(value, right[key]) for key, value in left.items()):
            raise ValueError(
                f"{repo_id} holds another world than the one whose variant was to stand beside it: its {name} differs; "
                "push the whole world first, without a variant"
            )


def _complete(world: Path, there: Path) -> None:
    """Add the weights that a snapshot holds in other forms, and list all of them in the manifest."""
    for file in sorted(there.glob("*/*.safetensors*")):
        if not (world / file.relative_to(there)).exists():
            shutil.copyfile(file, world / file.relative_to(there))
    names = {file.relative_to(world).as_posix() for file in world.rglob("*") if file.is_file()}
    write_manifest(world, sorted(names - {*EDITABLE, MANIFEST_FILE}))
