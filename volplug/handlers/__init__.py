"""Transport only: from bytes on a socket to calls of the core, and back."""
