"""Record a game with agents, learn it as a diffusion world model, play the model in real time.

Shape legend, used by every docstring of the package:

    B  batch (windows in training, worlds in play)      A  number of actions
    T  actions in an episode (it has T + 1 frames)      L  context length, in frames
    C  channels of a codec array, h w its size          H W  pixels of a frame

Time, once for the whole project: ``actions[t]`` is chosen on seeing ``frames[t]`` and leads to
``frames[t + 1]``.

The way of the data, a room a step::

    games -> dataset -> codecs -> latents -> diffusion, in the loop of training
                                                 |
              player, env, evaluation <- world <- loading

Importing this package starts nothing and imports nothing heavy: import the module that you need.
"""

__version__ = "0.1.0"

from gamengen.registration import register_with_gymnasium

register_with_gymnasium()
