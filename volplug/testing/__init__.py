"""For tests of volplug and of drivers outside it: a host in memory and the conformance suite."""
