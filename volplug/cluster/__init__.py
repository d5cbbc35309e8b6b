"""The cluster: which nodes there are, and why they are trusted."""
