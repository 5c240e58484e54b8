"""An example of a package whose parts register with trainoff."""
