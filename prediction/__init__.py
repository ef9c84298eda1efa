"""Prediction: passes over shards, parts, blends, outputs."""
