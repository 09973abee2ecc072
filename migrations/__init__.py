"""The database's schema, step by step: `store.schema.upgrade` runs them, `python -m migrations.check` checks them."""
