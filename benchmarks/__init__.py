"""Running suites: suite file, trials, workers, records."""
