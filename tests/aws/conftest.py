"""Not part of the test run: `make test-aws` runs it, on an EC2 instance, at the cost of its account."""

import os

collect_ignore_glob = [] if os.environ.get("VOLPLUG_TEST_AWS") == "1" else ["test_*.py"]
