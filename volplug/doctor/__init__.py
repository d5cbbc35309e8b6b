"""Doctor: checks this host and its backends, says how to mend what is wrong, and mends what is safe."""
