"""Starts nova-compute with the lab's driver: `python -m tests.lab.openstack.services.compute OPTIONS`.

Nova loads drivers from its own package only, so the module gets a second name there.
"""

import sys

from nova.cmd import compute  # first: it replaces parts of the standard library

from tests.lab.openstack.services import loop_guests

sys.modules["nova.virt.loop_guests"] = loop_guests
compute.main()
