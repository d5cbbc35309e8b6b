"""Starts nova-compute with the lab's driver: `python -m ... LOG TEXT OPTION...`.

It first waits for a text in the log of the conductor: a nova-compute that finds none sleeps for 10 s.
"""

import sys
import time
from pathlib import Path

from nova.cmd import compute  # first: it replaces parts of the standard library

from tests.lab.openstack.services import loop_guests

_POLL_S = 0.05

sys.modules["nova.virt.loop_guests"] = loop_guests  # Nova loads drivers from its own package only
log, text = (sys.argv.pop(1) for _ in range(2))
while text not in Path(log).read_text(errors="replace"):
    time.sleep(_POLL_S)
compute.main()
