"""The games whose pictures can be read. A new one: say how its objects look, then check it in test_objects_games.py."""

from __future__ import annotations

from gamengen.objects.look import Font, GameObjects, Grid, Look, Number, Paddle

_BLOCKS = """
### .#. ### ### #.# ### #.. ### ### ###
#.# .#. ..# ..# #.# #.. #.. ..# #.# #.#
#.# .#. ### .## ### ### ### ..# ### ###
#.# .#. #.. ..# ..# ..# #.# ..# #.# ..#
### .#. ### ### ..# ### ### ..# ### ..#
"""
PONG_DIGITS = Font.drawn(_BLOCKS, block_height=4, block_width=4)
BREAKOUT_DIGITS = Font.drawn(_BLOCKS, block_height=2, block_width=4)
ACTIVISION_DIGITS = Font.drawn("""
.####. .###.. #####. .####. ...##. ###### .####. ###### .####. .####.
##..## ####.. #...## #...## ..###. ##.... ##...# #....# ##..## ##..##
##..## ..##.. ....## ....## .#.##. ##.... ##.... ....## ##..## ##..##
##..## ..##.. .####. ...##. #..##. #####. #####. ...##. .####. .#####
##..## ..##.. ##.... ....## ###### ....## ##..## ..##.. ##..## ....##
##..## ..##.. ##.... #...## ...##. #...## ##..## ..##.. ##..## #...##
.####. ###### ###### .####. ...##. #####. .####. ..##.. .####. .####.
""")
FREEWAY_DIGITS = Font.drawn("""
.####. ..##.. .####. .####. ...##. ###### .####. ###### .####. .####.
##..## .###.. #...## #...## ..###. ##.... ##...# #....# ##..## ##..##
##..## ..##.. ....## ....## .#.##. ##.... ##.... ....## ##..## ##..##
##..## ..##.. ....## ...##. #..##. #####. #####. ...##. .####. ##..##
##..## ..##.. .####. ...##. ###### ....## ##..## ..##.. .####. .#####
##..## ..##.. ##.... ....## ...##. ....## ##..## ..##.. ##..## ....##
##..## ..##.. ##.... #...## ...##. #...## ##..## ..##.. ##..## #...##
.####. .####. ###### .####. ...##. #####. .####. ..##.. .####. .####.
""")

PONG = GameObjects(
    frame_height=210,
    frame_width=160,
    objects={
        "own_paddle": Look(
            colour=(92, 186, 92), background=(144, 72, 17), height=16, width=4, rows=((34, 194),), columns=(136, 148),
            min_share=0.1,
        ),
        "enemy_paddle": Look(
            colour=(213, 130, 74), background=(144, 72, 17), height=16, width=4, rows=((34, 194),), columns=(12, 24),
            min_share=0.1,
        ),
        "ball": Look(
            colour=(236, 236, 236), background=(144, 72, 17), height=4, width=2, rows=((34, 194),), columns=(0, 160)
        ),
    },
    numbers={
        "score": Number(
            colour=(92, 186, 92), background=(144, 72, 17), top=1, lefts=(100, 116), font=PONG_DIGITS
        ),
        "enemy_score": Number(
            colour=(213, 130, 74), background=(144, 72, 17), top=1, lefts=(20, 36), font=PONG_DIGITS
        ),
    },
    paddles={"own_paddle": Paddle("x", 1), "enemy_paddle": Paddle("x", -1)},
    moves=("RIGHT", "LEFT"),
    serve="FIRE",
)  # fmt: skip

BREAKOUT = GameObjects(
    frame_height=210,
    frame_width=160,
    own_axis="x",
    objects={
        "own_paddle": Look(
            colour=(200, 72, 72), background=(0, 0, 0), height=4, width=16, rows=((189, 193),), columns=(8, 152)
        ),
        # Not among the bricks (rows 57 to 92) nor beside the paddle: both have the ball's colour.
        "ball": Look(
            colour=(200, 72, 72), background=(0, 0, 0), height=4, width=2, rows=((32, 57), (93, 189)), columns=(8, 152)
        ),
    },
    numbers={
        "score": Number(
            colour=(142, 142, 142), background=(0, 0, 0), top=5, lefts=(36, 52, 68), font=BREAKOUT_DIGITS
        ),
        "lives": Number(colour=(142, 142, 142), background=(0, 0, 0), top=5, lefts=(100,), font=BREAKOUT_DIGITS),
    },
    grids={
        "bricks": Grid(
            colours=((200, 72, 72), (198, 108, 58), (180, 122, 48), (162, 162, 42), (72, 160, 72), (66, 72, 200)),
            background=(0, 0, 0), worth=(7, 7, 4, 4, 1, 1), columns=18, top=57, left=8, cell_height=6, cell_width=8,
        ),
    },
    paddles={"own_paddle": Paddle("y", 1)},
    moves=("LEFT", "RIGHT"),
    serve="FIRE",
)  # fmt: skip

SKIING = GameObjects(
    frame_height=210,
    frame_width=160,
    own="skier",
    own_axis="x",
    objects={
        "skier": Look(
            colour=(214, 92, 92), background=(236, 236, 236), height=18, width=8, area=55, rows=((32, 70),),
            columns=(8, 152), resolution=2.0,
        ),
        "flag": Look(
            colour=(66, 72, 200), background=(236, 236, 236), height=14, width=5, area=30, rows=((32, 178),),
            columns=(8, 152), first_from_top=True,
        ),
    },
    numbers={
        "score": Number(
            colour=(0, 0, 0), background=(236, 236, 236), top=6, lefts=(67, 75), font=ACTIVISION_DIGITS
        ),
    },
)  # fmt: skip

_CARS = (
    (167, 26, 26), (180, 231, 117), (105, 105, 15), (228, 111, 111), (24, 26, 167),
    (162, 98, 33), (84, 92, 214), (184, 50, 50), (135, 183, 84), (210, 210, 64),
)  # fmt: skip
"""From the uppermost lane down."""
FREEWAY = GameObjects(
    frame_height=210,
    frame_width=160,
    own="own_chicken",
    objects={
        name: Look(
            colour=(252, 252, 84), background=(142, 142, 142), height=8, width=6, area=27, rows=((15, 195),),
            columns=columns, min_share=0.35, resolution=2.0,
        )
        for name, columns in (("own_chicken", (44, 50)), ("other_chicken", (108, 114)))
    }
    | {
        f"car_{lane}": Look(
            colour=colour, background=(142, 142, 142), height=8, width=8, area=46, columns=(8, 160),
            rows=((27 + 16 * lane, 37 + 16 * lane),),
        )
        for lane, colour in enumerate(_CARS)
    },
    numbers={
        "score": Number(
            colour=(228, 111, 111), background=(142, 142, 142), top=5, lefts=(41, 49), font=FREEWAY_DIGITS
        ),
    },
)  # fmt: skip

BOXING = GameObjects(
    frame_height=210,
    frame_width=160,
    own="own_boxer",
    own_axis=None,
    objects={
        name: Look(
            colour=colour, background=(110, 156, 66), height=47, width=14, area=385, rows=((36, 180),),
            columns=(32, 128), min_share=0.4, centre="extent", resolution=3.0,
        )
        for name, colour in (("own_boxer", (214, 214, 214)), ("other_boxer", (0, 0, 0)))
    },
    numbers={
        "score": Number(
            colour=(214, 214, 214), background=(110, 156, 66), top=5, lefts=(39, 47), font=ACTIVISION_DIGITS
        ),
        "enemy_score": Number(
            colour=(0, 0, 0), background=(110, 156, 66), top=5, lefts=(103, 111), font=ACTIVISION_DIGITS
        ),
    },
)  # fmt: skip

GAMES: dict[str, GameObjects] = {
    env_id: game
    for name, game in (
        ("Pong", PONG), ("Breakout", BREAKOUT), ("Skiing", SKIING), ("Freeway", FREEWAY), ("Boxing", BOXING),
    )
    for env_id in (f"ALE/{name}-v5", f"{name}NoFrameskip-v4")
}  # fmt: skip
"""Env id -> what its picture shows."""


def game_objects(env_id: str) -> GameObjects:
    """What the picture of a game shows; ValueError names the games that can be read."""
    if env_id not in GAMES:
        raise ValueError(
            f"no object readers for {env_id}; known: {', '.join(GAMES)}; add it to gamengen/objects/games.py"
        )
    return GAMES[env_id]
