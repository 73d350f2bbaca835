"""The published planner, RAP-DINO, in plain operations, for people who have its weights.

It computes what `vita-epfl/RAP` at commit 5fd8630 computes for one sample, without its CUDA
operator and its ragged batches, so that it exports. Nothing here is trained: the weights come from
`rap_training.released_weights`.
"""
