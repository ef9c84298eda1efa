"""Predict votes with all members of some runs, blend them, write a submission: `galaxy_zoo predict` from a checkout.

    python predict.py runs/quick shards --out submission.csv --views 16
    python predict.py runs/a runs/b shards --blend weights --details details.parquet
    python predict.py runs/quick images/ --out votes.csv
    torchrun --nproc-per-node 8 predict.py runs/quick shards --views 16

Options -> runs and shards -> parts, kept until the files are written -> blend -> files. Killed at any moment, the
same command goes on with the part it was at.
"""

from prediction.command import predict as main

if __name__ == "__main__":
    main()
