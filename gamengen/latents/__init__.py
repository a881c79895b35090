"""Episodes as codec arrays: the shards, how they are made, and the training windows that are cut from them.

array_statistics  mean, deviation and median of codec arrays
encoding          episodes to shards, resumable, by several processes
finishing         statistics, codec, start states and the index, once all shards are there
shards            the shards: .pt files, index, checksums, reading by row
windows           shards to training windows, order a function of (seed, position)
"""
