"""Trained Stable-Baselines3 policies as players: their weights are read, their pickles are not."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.observation import OBSERVATION_SIZE, STACK_LENGTH
from agents.policies import DecisionContext, Policy
from gamengen.contract import GameContract
from gamengen.durable import sha256_file
from gamengen.hub.repository import resolve_file

CARD = "gamengen.json"
"""Inside the zip, beside what Stable-Baselines3 writes: how the agent was trained. Absent in zips from elsewhere."""
DEFAULT_DECISION_SKIP = 4
"""Emulator frames between two decisions of an Atari agent that does not say: the frame skip of nearly all."""

BATCH_ROWS = 8


class TrainedPolicy:
    """Samples from a PPO policy, or takes the best action of a DQN.

    A batch always has `batch_size` rows, with game n in row `n % batch_size`, because results differ in the last bits
    between batch sizes: so a recording that was continued, or shared out over processes, equals one that was not.
    """

    def __init__(
        self, policy: Any, name: str, observation_skip: int, batch_size: int, *, fire_on_reset: bool = False
    ) -> None:
        self.name = name
        self.observation_skip: int | None = observation_skip
        self.fire_on_reset = fire_on_reset
        """In its training fire was pressed for it, as `AgentEnv` does: it may never have learnt to begin a game."""
        self._policy = policy.eval()
        self._batch = np.zeros((batch_size, STACK_LENGTH, OBSERVATION_SIZE, OBSERVATION_SIZE), np.uint8)

    def act(self, contexts: Sequence[DecisionContext]) -> list[int]:
        size, actions = len(self._batch), {}
        for group in sorted({context.slot // size for context in contexts}):
            members = [context for context in contexts if context.slot // size == group]
            actions |= {context.slot: action for context, action in zip(members, self._act(members), strict=True)}
        return [actions[context.slot] for context in contexts]

    def features(self, observations: np.ndarray) -> np.ndarray:
        """What its network sees: uint8 (N, 4, 84, 84) -> float64 (N, d), the output of the shared convolutions."""
        extractor = self._policy.q_net.features_extractor if self._is_dqn else self._policy.features_extractor
        with torch.no_grad():
            seen = extractor(torch.as_tensor(observations).float() / 255)
        return np.asarray(seen.double().numpy())

    def judge(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What it would do and what it thinks: uint8 (N, 4, 84, 84) -> action probabilities (N, A), values (N,).

        A DQN's probability is one for its best action, and that action's Q is its value.
        """
        given = torch.as_tensor(observations)
        with torch.no_grad():
            if self._is_dqn:
                q = self._policy.q_net(given).double()
                return np.eye(q.shape[1])[q.argmax(dim=1).numpy()], q.amax(dim=1).numpy()
            probabilities = self._policy.get_distribution(given).distribution.probs.double().numpy()
            return probabilities, self._policy.predict_values(given).double().flatten().numpy()

    @property
    def _is_dqn(self) -> bool:
        return hasattr(self._policy, "q_net")

    def _act(self, contexts: Sequence[DecisionContext]) -> list[int]:
        """At most one batch."""
        rows = [context.slot % len(self._batch) for context in contexts]
        for row, context in zip(rows, contexts, strict=True):
            self._batch[row] = context.observation
        with torch.no_grad():
            observations = torch.as_tensor(self._batch)
            if not self._is_dqn:
                probabilities = self._policy.get_distribution(observations).distribution.probs.double().numpy()
                return [_sample(probabilities[row], context.rng) for row, context in zip(rows, contexts, strict=True)]
            best = self._policy.q_net(observations).argmax(dim=1)
        return [int(best[row]) for row in rows]


def load_policy(
    path: str | Path, game: GameContract, *, batch_size: int = BATCH_ROWS, trust_remote_code: bool = False,
    revision: str | None = None,
) -> tuple[Policy, str]:  # fmt: skip
    """A policy from a Stable-Baselines3 zip, and what it was loaded from.

    Only `policy.pth` is read, with `weights_only=True`, into a fresh CnnPolicy: no code of the file runs.

    Args:
        path: a zip; `owner/name` of a repository on the Hub that holds one, or `owner/name/file.zip`.
        batch_size: games that are looked at in one call; more are looked at in several.
        trust_remote_code: let Stable-Baselines3 unpickle the zip where the plain way fails (other networks).
            A pickle can run any code.
        revision: branch, tag or commit on the Hub.
    Raises:
        FileNotFoundError: no such file, here or on the Hub, or a name that is not a built-in policy.
        ValueError: not such a zip, other network or action count, or an agent that was trained on another game.
    """
    path = resolve_file(path, "*.zip", revision=revision)
    if not path.is_file():
        raise FileNotFoundError(f"policy {str(path)!r}: no such file, and not one of scripted, varied, random, noop")
    card = read_card(path)
    try:
        policy = _from_weights(path, game)
    except (pickle.UnpicklingError, RuntimeError, KeyError) as error:
        if not trust_remote_code:
            raise ValueError(
                f"{path}: its policy.pth does not hold the weights of a plain CnnPolicy ({error}); if you trust "
                "its author, --trust_remote_code unpickles it, which runs code from the file"
            ) from error
        policy = _unpickle(path)
    num_actions = int(policy.action_space.n)
    if num_actions != game.num_actions:
        raise ValueError(f"{path} knows {num_actions} actions, {game.env_id} has {game.num_actions}: another game?")
    _check_game(path, card, game)
    skip = int(card.get("decision_skip", DEFAULT_DECISION_SKIP))
    name = f"{card['agent']}-{card['num_timesteps']}" if card else path.stem
    fire = bool(card.get("fire_on_reset", False))
    trained = TrainedPolicy(policy, name, skip, batch_size, fire_on_reset=fire)
    return trained, f"{path.name} sha256 {sha256_file(path)}"


def _from_weights(path: Path, game: GameContract) -> Any:
    from gymnasium import spaces
    from stable_baselines3.common.policies import ActorCriticCnnPolicy
    from stable_baselines3.dqn.policies import CnnPolicy

    weights = torch.load(io.BytesIO(_member(path, "policy.pth")), map_location="cpu", weights_only=True)
    is_dqn = any(key.startswith("q_net.") for key in weights)
    last = weights["q_net.q_net.0.weight" if is_dqn else "action_net.weight"]
    observation = spaces.Box(0, 255, (STACK_LENGTH, OBSERVATION_SIZE, OBSERVATION_SIZE), np.uint8)
    kind = CnnPolicy if is_dqn else ActorCriticCnnPolicy
    policy = kind(observation, spaces.Discrete(last.shape[0]), lr_schedule=lambda remaining: 0.0)
    absent, unknown = policy.load_state_dict(weights, strict=False)
    # Older versions store the shared feature network once; its other names are the same tensors.
    absent = [key for key in absent if not key.startswith(("pi_features_extractor.", "vf_features_extractor."))]
    if absent or unknown:
        raise KeyError(f"weights missing: {absent[:3]}, unknown: {unknown[:3]}")
    return policy


def _unpickle(path: Path) -> Any:
    from stable_baselines3 import DQN, PPO

    described = json.loads(_member(path, "data")).get("policy_class", {})
    kind = DQN if ".dqn." in str(described.get("__module__", "")) else PPO
    return kind.load(path, device="cpu").policy


def check_zip(path: Path) -> list[str]:
    """The names of a zip's members, after a look at the checksum of each; ValueError when one is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = archive.namelist()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} is damaged or not a Stable-Baselines3 zip: {error}") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: its member {damaged} is not what was written")
    return names


def read_card(path: Path) -> dict[str, Any]:
    """How the agent of a zip was trained, empty where it does not say; ValueError for a damaged one."""
    return json.loads(_member(path, CARD)) if CARD in check_zip(path) else {}


def _check_game(path: Path, card: dict[str, Any], game: GameContract) -> None:
    """Games with as many actions give networks of one shape: what another one's agent would do here means nothing."""
    if "game" not in card:
        return  # a zip from elsewhere
    theirs = card["game"]["env_id"], [action["meaning"] for action in card["game"]["actions"]]
    ours = game.env_id, [action.meaning for action in game.actions]
    if theirs != ours:
        raise ValueError(
            f"{path} was trained on {theirs[0]} with the actions {', '.join(theirs[1])}; expected an agent of "
            f"{ours[0]} with the actions {', '.join(ours[1])}: train one with scripts/train_agent.py, or name another"
        )


def _member(path: Path, name: str) -> bytes:
    if name not in check_zip(path):
        raise ValueError(f"{path} is not a Stable-Baselines3 zip: it holds no {name}")
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _sample(probabilities: np.ndarray, rng: np.random.Generator) -> int:
    return int(min(np.searchsorted(np.cumsum(probabilities), rng.random(), side="right"), len(probabilities) - 1))
