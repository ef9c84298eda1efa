"""Shards to batches on the device: DALI decodes, one affine warp makes the views.

    shards.py        which samples there are: memory-mapped shards, votes, folds
    proof.py         JPEGs that DALI survives
    cache.py         shards of an object store, fetched to the disk
    order.py         which sample comes when: pure functions of seed, epoch and rank
    augment.py       what a view is: parameters of warps and colours, drawn or fixed
    graph.py         the DALI graphs: decode (-> stamp -> warp -> colour -> normalise)
    plan.py          the plan of a batch, and the stream DALI decodes
    stamps.py        stamps kept in memory; memory.py: how much is free, saved_stamps.py: their file
    warp.py          reduce, warp, colour and normalise with OpenCV, faster than the graph on a CPU
    warp_triton.py   the same warp on a GPU, from stamps that are there
    engines.py       graph, or stamps + warp, behind one interface
    loader.py        the loader: orders x samples x views -> batches
    options.py       options of the commands that load galaxies

Imports `galaxy_zoo` only. DALI is imported here and nowhere else.
"""
