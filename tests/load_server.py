"""A player over CounterWorlds in a process of its own, for load tests: prints its port, ends when its input closes.

python -m tests.load_server NUM_CLIENTS FPS
"""

from __future__ import annotations

import sys

from tests.player_server import counter_source, running


def main() -> None:
    num_clients, fps = int(sys.argv[1]), float(sys.argv[2])
    with running(counter_source(fps=fps), max_clients=num_clients) as player:
        print(player.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
