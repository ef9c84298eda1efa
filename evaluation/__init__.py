"""Scores, figures and the report: what trained runs can do, and where they fail.

A file a section of the report; each makes a `section.Section` of the `evidence.Evidence` that the script gathered.

    cli.py          the command galaxy_zoo
    command.py      galaxy_zoo evaluate: its options; views_command.py: those of galaxy_zoo views
    evidence.py     what the runs predicted, and what is true
    section.py      what a section is made of: figures, tables, parts of a page
    theme.py        how figures look: matplotlib to SVG that follows the page's colours
    scoring.py      RMSE with intervals, paired comparisons, published numbers
    training.py     losses, scores, learning rates and speed over the epochs
    sizes.py        the effect of the number of members and of test-time views
    classes.py      votes as classes: confusions, precision, recall, accuracy
    calibration.py  predicted against true votes, residuals, certainty
    gallery.py      galaxies with their votes on the decision tree
    attention.py    Grad-CAM and AblationCAM
    embedding.py    the network's last layer in two dimensions
    report.py       the page and its tables
"""
