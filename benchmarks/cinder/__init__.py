"""What volplug adds to OpenStack Cinder, measured on a real control plane on this machine."""
