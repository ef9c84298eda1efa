"""Runs: members trained on shards, scored on the fold held out, and saved so that they can go on.

request.py     what the user asks train.py for
build.py       request -> recipe, shards, a run for each fold -> loaders, members and a trainer
intro.py       what is said before the first step
samples.py     which samples a rank reads, how often each comes, what their mean scores
loop.py        the trainer: steps, epochs, when to save and when to stop
held_out.py    scores on the fold held out
member.py      one model and all its training state
checkpoint.py  that state as a safetensors file
run.py         the folder of a run
ranks.py       the processes of a torchrun and their collectives
meter.py       progress bars; watch.py stops at a loss that is not finite
logbook.py     metrics.jsonl and TensorBoard; figures.py draws
interrupt.py   Ctrl-C as a request to stop
"""
