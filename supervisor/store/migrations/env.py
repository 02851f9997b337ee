"""What Alembic runs: the steps, on the connection that `migrate` opened. The transaction is its."""

from alembic import context

from supervisor.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
