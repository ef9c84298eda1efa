"""Images and votes to shards: pack, synth, info and lint. No torch and no model code."""
