"""The test lab: real Docker engines and volplug processes, private to one test run."""
