"""What the course needs around ``sdlab``: portraits, judging, lessons, checks, grading, training, the command line."""
