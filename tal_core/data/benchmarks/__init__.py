"""What is known of the field's benchmarks: how their data is laid out, what was published on them."""
