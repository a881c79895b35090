"""The newest state of one client's keys, sampled once a tick."""

from __future__ import annotations

from dataclasses import replace

from gamengen.player.protocol import Input


class Keys:
    """`press` comes from the network at any time, `sample` from the clock."""

    def __init__(self, noop_action: int) -> None:
        self.newest = Input(0, noop_action)
        self._sampled = self._changed = noop_action

    def press(self, keys: Input) -> bool:
        """The newest state; True when its action differs from the one before."""
        differs = keys.action != self.newest.action
        self.newest = keys
        if keys.action != self._sampled:
            self._changed = keys.action
        return differs

    def sample(self) -> Input:
        """What the keys mean at this tick. A key that went down and up since the last one counts for one tick."""
        action = self.newest.action if self.newest.action != self._sampled else self._changed
        self._sampled = self._changed = action
        return replace(self.newest, action=action)
