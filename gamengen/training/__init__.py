"""The one Accelerate loop of every trainer; it knows no batch and no network.

config       flags and types of every trainer
optimizer    optimizers, learning rate by progress
prefetch     the next batch made ahead by threads
ranks        as many ranks as were asked for, or an error
checkpoints  published checkpoints: complete or not there
state        what a checkpoint holds: whole tensors, whoever shares them
tracking     metrics.jsonl and trackers
run          the state of a run: step, validate, save, resume
loop         the one Accelerate loop
cost         memory and time of a training, counted on shapes
"""
