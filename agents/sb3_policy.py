"""Trained Stable-Baselines3 policies as players: their weights are read, their pickles are not."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.observation import OBSERVATION_SIZE, STACK_LENGTH
from agents.policies import DecisionContext, Policy
from gamengen.contract import GameContract
from gamengen.durable import sha256_file

CARD = "gamengen.json"
"""Inside the zip, beside what Stable-Baselines3 writes: how the agent was trained. Absent in zips from elsewhere."""
DEFAULT_DECISION_SKIP = 4
"""Emulator frames between two decisions of an Atari agent that does not say: the frame skip of nearly all."""


class TrainedPolicy:
    """Samples from a PPO policy, or takes the best action of a DQN.

    A batch always has `batch_size` rows with each game at its own place, because results differ in the last bits
    between batch sizes: so a recording that was continued equals one that was not.
    """

    def __init__(self, policy: Any, name: str, observation_skip: int, batch_size: int) -> None:
        self.name = name
        self.observation_skip: int | None = observation_skip
        self._policy = policy.eval()
        self._batch = np.zeros((batch_size, STACK_LENGTH, OBSERVATION_SIZE, OBSERVATION_SIZE), np.uint8)

    def act(self, contexts: Sequence[DecisionContext]) -> list[int]:
        for context in contexts:
            self._batch[context.slot] = context.observation
        with torch.no_grad():
            observations = torch.as_tensor(self._batch)
            if not hasattr(self._policy, "q_net"):
                probabilities = self._policy.get_distribution(observations).distribution.probs.double().numpy()
                return [_sample(probabilities[context.slot], context.rng) for context in contexts]
            best = self._policy.q_net(observations).argmax(dim=1)
        return [int(best[context.slot]) for context in contexts]


def load_policy(
    path: str | Path, game: GameContract, *, batch_size: int, trust_remote_code: bool = False
) -> tuple[Policy, str]:
    """A policy from a Stable-Baselines3 zip, and what it was loaded from.

    Only `policy.pth` is read, with `weights_only=True`, into a fresh CnnPolicy: no code of the file runs.

    Args:
        batch_size: games that are played side by side.
        trust_remote_code: let Stable-Baselines3 unpickle the zip where the plain way fails (other networks).
            A pickle can run any code.
    Raises:
        FileNotFoundError: no such file, or a name that is not a built-in policy.
        ValueError: not such a zip, other network or action count.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"policy {str(path)!r}: no such file, and not one of scripted, random, noop")
    card = _read_card(path)
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
    skip = int(card.get("decision_skip", DEFAULT_DECISION_SKIP))
    name = f"{card['agent']}-{card['num_timesteps']}" if card else path.stem
    return TrainedPolicy(policy, name, skip, batch_size), f"{path.name} sha256 {sha256_file(path)}"


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


def _read_card(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(CARD)) if CARD in archive.namelist() else {}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged or not a Stable-Baselines3 zip: {error}") from error


def _member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        if name not in archive.namelist():
            raise ValueError(f"{path} is not a Stable-Baselines3 zip: it holds no {name}")
        return archive.read(name)


def _sample(probabilities: np.ndarray, rng: np.random.Generator) -> int:
    return int(min(np.searchsorted(np.cumsum(probabilities), rng.random(), side="right"), len(probabilities) - 1))
