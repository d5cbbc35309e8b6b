"""The command line for people: Docker's grammar on the control API, without decisions of its own."""
