"""A trained system used on new patients: what the command line, the app and HTTP share."""
