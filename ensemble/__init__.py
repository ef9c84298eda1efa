"""Models: recipes, and the networks, heads, losses and optimisers they describe. Knows no loader and no training.

recipe_files.py  the TOML files of recipes: find one, read it, merge it into its base
recipe.py        a recipe: such a file, read strictly into dataclasses
recipes/         one file a published system; parameters.json: sizes of their networks; scores.json: ours
listing.py       the table of train.py --list
networks/        images -> logits
  convolutional.py  convolutions, CBAM, linear layers
  dieleman.py       the challenge's winner, which looks at 16 parts; corners.py cuts them
  equivariant.py    convolutions over rotations by 90 degrees and mirror images
  backbones.py      timm's networks with their pretrained weights; weights.py reads these from a file
heads.py         logits -> votes
losses.py        predicted and true votes -> scalar
optimisers.py    optimisers and learning-rate schedules
model.py         a network with its head; predictions with it
"""
