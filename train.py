"""Train an ensemble from shards: `galaxy_zoo train` from a checkout.

    python train.py shards --recipe quick --members 2 --out runs/quick

All members learn from one stream: an image is read and decoded once, and each member gets its own view of it.
"""

from training.command import train as main

if __name__ == "__main__":
    main()
