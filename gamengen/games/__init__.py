"""The real games: every episode seeded, the raw frames, and each of them as a World.

emulator        the real game: own frame skip, every episode seeded
emulator_world  the real game as a World, by replay
doom            ViZDoom as a game: chords, exact replay
doom_reward     GameNGen's reward for the agent that plays Doom
"""
