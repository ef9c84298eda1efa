"""Train a network of your own, and score it on galaxies held out: python examples/own_loop.py SHARDS"""

import sys

import timm
import torch

from pipeline import Decoding, FixedViews, Loader, RandomViews, View, open_shards

decoding = Decoding(device="cuda" if torch.cuda.is_available() else "cpu", dtype=torch.float32)
view = View(crop_px=256, size_px=64, rotation_deg=180, flip=True)
samples, held_out = open_shards(sys.argv[1], fold="0/5"), open_shards(sys.argv[1], fold="0/5", held_out=True)
network = timm.create_model("resnet18", num_classes=samples.votes.shape[1]).to(decoding.device)
optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
with Loader(samples, RandomViews(view), decoding=decoding) as loader:
    for _ in range(5):  # epochs
        for batch in loader:
            errors = (network(batch.views[0]).sigmoid() - batch.votes).nan_to_num()  # missing votes are NaN
            optimiser.zero_grad()
            errors.square().mean().backward()
            optimiser.step()
with Loader(held_out, FixedViews(view), decoding=decoding) as loader, torch.inference_mode():
    network.eval()
    errors = torch.cat([network(batch.views[0]).sigmoid() - batch.votes for batch in loader])
print(f"RMSE on {len(held_out):,} galaxies held out: {errors.square().nanmean().sqrt():.4f}")
