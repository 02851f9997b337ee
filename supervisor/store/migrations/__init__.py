"""Numbered, forward-only steps of the schema, for Alembic. Run by `supervisor.store.migrate`."""
