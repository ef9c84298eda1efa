"""Scores, figures and the report: how well trained runs predict, and where they fail.

Each file is a section of the report; it builds a `section.Section` from the `evidence.Evidence` that collect.py
gathers.

    cli.py          the command galaxy_zoo
    command.py      galaxy_zoo evaluate: its options; views_command.py: those of galaxy_zoo views
    evidence.py     predictions of the runs, and true votes
    section.py      the parts of a section: figures, tables, fragments of the page
    theme.py        the style of figures: matplotlib to SVG in the colours of the page
    scoring.py      RMSE with intervals, paired comparisons, published scores
    training.py     losses, scores, learning rates and speed over the epochs
    sizes.py        the effect of the number of members and of test-time views
    classes.py      votes as classes: confusions, precision, recall, accuracy
    calibration.py  predicted against true votes, residuals, certainty
    gallery.py      galaxies with their votes on the decision tree
    attention.py    Grad-CAM and AblationCAM
    embedding.py    the input of the network's last layer in two dimensions
    report.py       the page and its tables
"""
