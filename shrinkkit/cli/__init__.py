"""The `shrinkkit` command: `app` dispatches; `doctor`, `bench` and `report` do and print."""
