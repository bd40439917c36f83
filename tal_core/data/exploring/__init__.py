"""What there is to see in a dataset: statistics, snippets, pooled features, similar videos."""
