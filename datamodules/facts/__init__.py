"""The facts about the shipped data sets, by kind. Data only: no torch is imported."""
