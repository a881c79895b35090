"""To and from the Hugging Face Hub: what is pulled, what is pushed, and the cards.

repository           paths or Hub ids: pull, cache, clear errors
dataset_card         the card of a dataset
dataset_push         a dataset to the Hub
figures              the figures in a card, for readers and for the Hub
markdown             what every card is written with
part_push            an autoencoder or an agent to the Hub
run_push             what a stage made, to the Hub
world_card           the model card of a world
world_push           a world to the Hub
standalone_pipeline  the pipeline.py of a pushed world, for people without this package
"""
