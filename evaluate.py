"""Evaluate runs on galaxies they have not seen, and write a report to look at: `galaxy_zoo evaluate` from a checkout.

    python evaluate.py runs/quick shards --out report        # then open report/report.html
    python evaluate.py runs/quick/fold-* shards --out-of-fold

Runs and shards -> galaxies that no run has seen -> votes of every member and view -> evaluation.report.
"""

from evaluation.command import evaluate as main

if __name__ == "__main__":
    main()
