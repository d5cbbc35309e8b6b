"""What volplug adds to Amazon EBS, measured on a simulated EC2 with quick states and with slow ones."""
