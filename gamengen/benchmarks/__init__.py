"""What takes how long: the stages of the chain, every way to play, and reliability.

chain        timing of the stages
play         timing of every way to play
reliability  what checkpoints, checksums and determinism cost
"""
