"""For tests of volplug and of drivers in other packages: a host in memory and the conformance suite."""
