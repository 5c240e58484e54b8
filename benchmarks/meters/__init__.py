"""What is measured while a trial trains: time, memory, operations, curves, stability."""
