"""Words both sides speak: errors, events, keys, statements, tensors, orders and results."""
