"""Volumes on Amazon EBS, which follow their containers between the instances of a zone."""
