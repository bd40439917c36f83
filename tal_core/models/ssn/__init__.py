"""SSN: structured segment networks."""
