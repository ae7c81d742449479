"""The log: events, their rows in SQLite, and what follows from them. It knows graphs as data, and no output's value."""
