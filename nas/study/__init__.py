"""Studies: configuration, database, sampling, workers and recovery. The only place that knows optuna."""
