"""Recipes, networks and their training state. Batches come from outside: `pipeline` is never imported here.

recipe.py      a recipe: one strict TOML file a published system (recipes/*.toml)
strict.py      tables of TOML to dataclasses: an unknown key is an error that names the nearest known one
networks.py    images -> logits: the kinds of network, from
  convolutional.py  convolutions, CBAM, linear layers
  dieleman.py       the 16 parts of the challenge's winner
  backbones.py      timm's networks with their pretrained weights
heads.py       logits -> votes
losses.py      predicted and true votes -> a number
optimisers.py  optimisers and learning-rate schedules
member.py      one model of an ensemble and all its training state
checkpoint.py  that state as a safetensors file
run.py         the folder of a run
ranks.py       the processes of a torchrun
waiting.py     how long a loop waits for its batches
meter.py       progress; watch.py stops at a loss that is no number
scores.py      the scores of predicted votes, question by question
logbook.py     metrics.jsonl and TensorBoard; figures.py draws
listing.py     the table of train.py --list

predicting.py  which member predicts which galaxies, in passes and parts
spool.py       finished parts of a prediction, to go on from
blend.py       weights of members: uniform, best k, fitted; what they over-fit
blending.py    members and views to votes and spreads
embedding.py   the input of the last layer
outputs.py     the submission and the Parquet files (parquet.py)
pace.py        how fast a prediction goes
job.py         all of this together
"""
