"""What volplug adds to Amazon EBS, measured on a served EC2 that answers at once."""
