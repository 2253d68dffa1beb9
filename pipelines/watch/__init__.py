"""What the daily watch looks at, one file a question; `pipelines.monitor` puts them together."""
