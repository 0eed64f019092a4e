"""The application: configuration, command line, runs, view and log."""
