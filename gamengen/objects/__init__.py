"""What a game's picture shows, read from pixels alone, so that dreams can be read too.

`read_objects` says where each object of a game is, `read_numbers` what its score and lives say, `read_grids` which
bricks of a wall are there, `turns` when its ball turns; a `Follower` plays by them. `GAMES` is open to new games: a
game is a few lines that say how each object looks; the tests check every reader against the console's memory.
"""

from gamengen.objects.follower import Follower as Follower
from gamengen.objects.follower import can_follow as can_follow
from gamengen.objects.follower import follow_obstacle as follow_obstacle
from gamengen.objects.games import BREAKOUT as BREAKOUT
from gamengen.objects.games import GAMES as GAMES
from gamengen.objects.games import PONG as PONG
from gamengen.objects.games import game_objects as game_objects
from gamengen.objects.grids import read_grids as read_grids
from gamengen.objects.look import GameObjects as GameObjects
from gamengen.objects.look import Grid as Grid
from gamengen.objects.look import Look as Look
from gamengen.objects.look import Number as Number
from gamengen.objects.numbers import read_numbers as read_numbers
from gamengen.objects.reader import Track as Track
from gamengen.objects.reader import read_objects as read_objects
from gamengen.objects.turns import BALL as BALL
from gamengen.objects.turns import Axes as Axes
from gamengen.objects.turns import turns as turns
