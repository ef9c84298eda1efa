"""Shards to batches on the device: DALI decodes, one affine warp makes the views.

    shards.py   which samples there are: memory-mapped shards, votes, folds
    order.py    which sample comes when: pure functions of seed, epoch and rank
    augment.py  what a view is: parameters of warps and colours, drawn or fixed
    graph.py    the DALI graphs: decode (-> stamp -> warp -> colour -> normalise)
    warp.py     the same stamp, warp, colour and normalise with OpenCV and torch, faster on a CPU
    loader.py   the loader: orders x samples x views -> batches

Imports `galaxy_zoo` only. DALI is imported here and nowhere else.
"""
