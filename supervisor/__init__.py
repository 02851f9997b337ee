"""The truth: what the farm is and what it does next. Knows nothing of Flask."""
