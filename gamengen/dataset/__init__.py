"""Episodes on the disk: a Hugging Face dataset of parquet files, a row a frame, split by whole episodes.

frame_png       frames as PNG bytes, bit-exact, palette up to 256 colours
splits          train, validation or test, by the number of the episode
episodes        the dataset: a row a frame in parquet, read and verified
episode_writer  complete episodes only, the index last
start_states    prompts for worlds, chosen from held-out episodes
dataset_world   a recording as a World, to look through
"""
