"""The report on a board: one description, which becomes a W&B Report or a page of HTML."""
