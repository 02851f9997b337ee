"""Pages and partials: each view reads with a query or acts with a command, and renders."""
