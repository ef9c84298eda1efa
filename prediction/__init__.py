"""Prediction: from runs and shards to a submission.

command.py    the command galaxy_zoo predict: its options
request.py    what predict.py is asked for, and which options go together
source.py     the shards or images to predict, and how they are read
members.py    the trained members of runs
passes.py     which member predicts which galaxies, in parts
parts.py      the parts that are finished, so that a prediction can be killed and go on
embedding.py  what a network's last layer gets
blend.py      how members are weighted
outputs.py    the submission and the Parquet files
job.py        a whole prediction
"""
