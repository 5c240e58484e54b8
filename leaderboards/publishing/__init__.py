"""Records to Weights & Biases and back. wandb itself is imported in a process of its own, where it is used."""
