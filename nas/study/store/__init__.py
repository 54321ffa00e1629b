"""The database of studies. The only place that knows SQL."""
