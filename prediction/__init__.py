"""Prediction: turn runs and shards into a submission.

command.py    the command galaxy_zoo predict: its options
request.py    options of predict.py, and which of them go together
source.py     the shards or images to predict, and how they are read
members.py    trained members of runs
passes.py     predictions of the members, in passes and parts
memory.py     how many galaxies are predicted at once
parts.py      finished parts, from which a killed prediction goes on
embedding.py  the input of a network's last layer
blend.py      weights of the members
outputs.py    the submission and the Parquet files
job.py        a whole prediction
"""
