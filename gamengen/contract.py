"""What a dataset, a set of shards and a world promise about themselves, and the check that two of them agree.

Three layers, each inside the next: the game (datasets and everything after), the codec (shards and
after), the world (checkpoints and world folders). A reader compares the layers that both sides have
and refuses a mismatch with an error that names both values and both files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gamengen.durable import read_json, write_json

TIME_CONVENTION = "actions[t] is chosen on frames[t] and leads to frames[t + 1]"
CONTRACT_FILE = "contract.json"
INDEX_FILE = "model_index.json"
"""Of a world folder, as diffusers names it; the world's contract stands in it."""


class ContractMismatch(ValueError):
    """Two artefacts that are used together were not made for each other."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """One row of the action table: its id is its position."""

    meaning: str
    """What the game calls it, such as `RIGHTFIRE`."""
    keys: tuple[str, ...] = ()
    """Default keys of the player, as the browser names them (`ArrowRight`, ` `); all pressed together."""


@dataclass(frozen=True, kw_only=True)
class GameContract:
    """How the stream of frames and actions was made. Frames are uint8 RGB (H, W, 3)."""

    env_id: str
    frame_height: int
    frame_width: int
    fps: float
    """Frames a second of the recorded stream."""
    actions: tuple[Action, ...]
    noop_action: int = 0
    """The action that stands before the first frame and where an episode's last action is null."""
    frame_skip: int = 1
    """Emulator frames between two recorded frames."""
    hold: tuple[int, int] = (1, 1)
    """Recorded frames that a decision of the recording agent is held: drawn anew from [min, max] each time."""
    sticky_probability: float = 0.0
    max_pool: bool = False
    noop_start_max: int = 0
    """Random no-ops before the first recorded frame, 0 to this many recorded-stream steps."""
    action_set: Literal["minimal", "full"] = "minimal"
    colour_order: str = "RGB"
    time: str = TIME_CONVENTION
    version: int = 1

    def __post_init__(self) -> None:
        if not self.actions:
            raise ValueError(f"{self.env_id}: the action table is empty; expected at least one action")
        if not 0 <= self.noop_action < len(self.actions):
            raise ValueError(
                f"{self.env_id}: noop_action {self.noop_action} is not in the table 0..{len(self.actions) - 1}"
            )

    @property
    def num_actions(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, kw_only=True)
class CodecContract:
    """How frames become arrays. `mean` and `std` are None until the shards are finalised."""

    game: GameContract
    kind: str
    """`identity` or `autoencoder`."""
    fingerprint: str
    """sha256 of the encoder path's weights cast to float16; `identity` for the identity codec."""
    array_shape: tuple[int, int, int]
    """(C, h, w) of one raw array."""
    array_dtype: str
    """torch name of the stored raw dtype, such as `float16`."""
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels repeated from the border before encoding and cropped after decoding: top, bottom, left, right."""
    patch_size: int = 1
    """Pixels folded into channels before the autoencoder (space to depth) and unfolded after it."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean of the training split's raw arrays, (C,)."""
    std: tuple[float, ...] | None = None
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class WorldContract:
    """What a trained world expects. Extra settings of one kind of world stand in `settings`, JSON values only."""

    codec: CodecContract
    kind: str
    """`latent_diffusion`, `emulator`, ..."""
    context_length: int
    """Frames and actions that one step is conditioned on (L)."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    format_version: int = 1

    @property
    def game(self) -> GameContract:
        return self.codec.game


Contract = GameContract | CodecContract | WorldContract


def to_dict(contract: Contract) -> dict[str, Any]:
    """Plain JSON values; `from_dict` of the same class gives an equal contract back."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(contract))
    return plain


def game_from_dict(values: Mapping[str, Any]) -> GameContract:
    """Raises ValueError when a field is unknown or missing, or the version is newer than this code."""
    fields = _checked(GameContract, values)
    fields["actions"] = tuple(Action(meaning=a["meaning"], keys=tuple(a["keys"])) for a in fields["actions"])
    fields["hold"] = tuple(fields["hold"])
    return GameContract(**fields)


def codec_from_dict(values: Mapping[str, Any]) -> CodecContract:
    """As `game_from_dict`."""
    fields = _checked(CodecContract, values)
    fields["game"] = game_from_dict(fields["game"])
    for name in ("array_shape", "padding", "mean", "std"):
        if fields.get(name) is not None:
            fields[name] = tuple(fields[name])
    return CodecContract(**fields)


def world_from_dict(values: Mapping[str, Any]) -> WorldContract:
    """As `game_from_dict`."""
    fields = _checked(WorldContract, values)
    fields["codec"] = codec_from_dict(fields["codec"])
    return WorldContract(**fields)


def write_contract(folder: str | Path, contract: Contract) -> None:
    """Write `contract.json` into `folder`, atomically."""
    write_json(Path(folder) / CONTRACT_FILE, to_dict(contract))


def read_game_contract(folder: str | Path) -> GameContract:
    """Read the game contract of a dataset folder; FileNotFoundError names what is missing."""
    path = Path(folder) / CONTRACT_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: expected an episode dataset with its contract; "
            "make one with scripts/record_episodes.py"
        )
    try:
        return game_from_dict(read_json(path))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is no contract, or a damaged one: {error}") from error


def layers(contract: Contract) -> dict[str, Any]:
    """The layers that a contract has, by name, each without the ones inside it."""
    if isinstance(contract, WorldContract):
        own = {f.name: getattr(contract, f.name) for f in dataclasses.fields(contract) if f.name != "codec"}
        return {**layers(contract.codec), "world": own}
    if isinstance(contract, CodecContract):
        own = {f.name: getattr(contract, f.name) for f in dataclasses.fields(contract) if f.name != "game"}
        return {**layers(contract.game), "codec": own}
    own = {f.name: getattr(contract, f.name) for f in dataclasses.fields(contract)}
    # Default keys are the player's taste, not a promise about the data.
    own["actions"] = tuple(action.meaning for action in contract.actions)
    return {"game": own}


def check_compatible(ours: Contract, theirs: Contract, ours_from: str | Path, theirs_from: str | Path) -> None:
    """Compare the layers that both contracts have.

    Raises:
        ContractMismatch: names the layer, each differing field, both values and both sources.
    """
    left, right = layers(ours), layers(theirs)
    differences = [
        f"  {layer}.{field}: {left[layer][field]!r} in {ours_from}, {right[layer][field]!r} in {theirs_from}"
        for layer in left
        if layer in right
        for field in left[layer]
        if not _agree(left[layer][field], right[layer].get(field), optional=field in ("mean", "std"))
    ]
    if differences:
        raise ContractMismatch(
            f"{ours_from} and {theirs_from} were not made for each other:\n"
            + "\n".join(differences)
            + "\nUse artefacts of one game, one recording setting and one codec together, or make one of them again."
        )


def check_actions(actions: Any, game: GameContract, where: str) -> None:
    """Raise ValueError if any of `actions` (any integer array) is not an id of the game's action table."""
    for position, action in enumerate(actions):
        if not 0 <= int(action) < game.num_actions:
            table = ", ".join(f"{i} {a.meaning}" for i, a in enumerate(game.actions))
            raise ValueError(
                f"{where}: action {int(action)} at position {position} is not in the action table of "
                f"{game.env_id}; expected one of: {table}"
            )


def _agree(left: Any, right: Any, *, optional: bool) -> bool:
    if optional and (left is None or right is None):
        return True
    if isinstance(left, tuple) and isinstance(right, tuple) and left and isinstance(left[0], float):
        return len(left) == len(right) and all(
            math.isclose(a, b, rel_tol=1e-6) for a, b in zip(left, right, strict=True)
        )
    return bool(left == right)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _checked(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name: f for f in dataclasses.fields(kind)}
    name = "format_version" if "format_version" in known else "version"
    supported = known[name].default
    if values.get(name, supported) != supported:
        raise ValueError(
            f"{kind.__name__} has {name} {values[name]}, this gamengen reads {supported}; "
            "install the gamengen that wrote it"
        )
    unknown = sorted(set(values) - set(known))
    missing = sorted(
        f.name
        for f in known.values()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in values
    )
    if unknown or missing:
        raise ValueError(f"not a {kind.__name__}: unknown fields {unknown}, missing fields {missing}")
    return dict(values)
