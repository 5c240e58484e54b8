"""Where trials run: in worker processes of this machine, as tasks of a Ray cluster, or in SLURM jobs."""
