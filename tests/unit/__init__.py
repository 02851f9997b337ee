"""Rules, steps, commands: fakes and SQLite in a temporary file; no network."""
