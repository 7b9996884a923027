"""The instructor's side of the labs: make them from the solutions, and grade what comes back."""
