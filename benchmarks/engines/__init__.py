"""How one trial is trained: by a Lightning Trainer."""
