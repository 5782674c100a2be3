"""The main job: held-out arithmetic problems, a small language model, and five ways to spend N samples."""
