"""The `runstore` command: arguments in, text and an exit code out. It can nothing that a Python caller cannot."""
