"""Models: recipes, and the networks, heads, losses and optimisers they describe. Knows no loader and no training.

recipe_files.py  the TOML files: which come with the project, and what one leaves to its base
recipe.py        a recipe: such a file read strictly, as dataclasses
recipes/         one file a published system; parameters.json: how large their networks are; scores.json: how good
listing.py       the table of train.py --list
networks/        images -> logits
  convolutional.py  convolutions, CBAM, linear layers
  dieleman.py       the 16 parts of the challenge's winner; corners.py cuts them
  equivariant.py    convolutions over rotations by quarters and mirror images
  backbones.py      timm's networks with their pretrained weights
heads.py         logits -> votes
losses.py        predicted and true votes -> a number
optimisers.py    optimisers and learning-rate schedules
model.py         a network with its head, and its predictions
"""
