"""What a training will need before it runs: memory on each device under each strategy, operations, time."""
