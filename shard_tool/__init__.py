"""Turn images and votes into shards: pack, synth, info, lint and more. No torch and no model code."""
