"""Where trials run: in worker processes of this machine."""
