"""Code that runs in the environment of OpenStack's services, not in that of the tests."""
