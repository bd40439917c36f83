"""One file per method: network, targets, loss, decode; and the registry."""
