"""Training: train members on shards, score them on the fold held out, and save them to resume.

command.py     the command galaxy_zoo train: its options
request.py     the argument and options of train.py
build.py       request -> recipe, shards, a run for each fold -> loaders, members and a trainer
resuming.py    whether a run may begin in its folder, or resume the one there
trials.py      initial weights chosen by their score after one epoch
intro.py       what is said before the first step
samples.py     the samples of a rank, how often each comes, the score of their mean votes
loop.py        the trainer: steps, epochs, when to save and when to stop
held_out.py    scores on the fold held out
member.py      a model and all its training state; initial.py starts it from the weights of an earlier run
step.py        one step of a member, launched kernel by kernel or replayed as a CUDA graph
streams.py     members side by side on a GPU, each on a CUDA stream of its own
checkpoint.py  that state as a safetensors file; writer.py writes it beside the training
run.py         the folder of a run
ranks.py       the processes that torchrun started, and their collectives
meter.py       progress bars; idle.py measures how long a GPU has nothing to do
watch.py       stops training if a loss is not finite
logbook.py     metrics.jsonl and TensorBoard; figures.py draws in the look of style.py
start.py       time from the start of the process to the first step
interrupt.py   Ctrl-C as a request to stop
"""
