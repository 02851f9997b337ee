"""The jobs' way: one step a status, and what goes on beside the tick."""
