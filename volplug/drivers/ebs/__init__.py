"""Volumes on Amazon EBS."""

from volplug.drivers.ebs.driver import EbsDriver, build

__all__ = ["EbsDriver", "build"]
