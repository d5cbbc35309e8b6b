"""`make bench`: volplug side by side with its peers, in one run."""
