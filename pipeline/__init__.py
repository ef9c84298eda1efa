"""Turn shards into batches on the device: DALI decodes, one affine warp makes the views.

    shards.py        the samples: memory-mapped shards, votes, folds
    proof.py         checks that keep damaged JPEGs from DALI
    cache.py         shards of an object store, downloaded to the disk
    order.py         the order of samples: pure functions of seed, epoch and rank
    augment.py       parameters of views: warps and colours, drawn or fixed
    graph.py         the DALI graphs: decode (-> stamp -> warp -> colour -> normalise)
    plan.py          the plan of a batch, and the stream DALI decodes
    stamps.py        stamps kept in memory; memory.py: free memory; saved_stamps.py: their file
    warp.py          reduce, warp, colour and normalise with OpenCV, faster than the graph on a CPU
    warp_triton.py   the same warp on a GPU, from stamps in its memory
    engines.py       graph, or stamps + warp, behind one interface
    loader.py        the loader: orders x samples x views -> batches
    options.py       options of the commands that load galaxies

Imports `galaxy_zoo` only. DALI is imported here and nowhere else.
"""
