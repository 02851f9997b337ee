"""SQLite through SQLAlchemy. SQL never leaves this folder; what leaves are frozen dataclasses."""
