"""Whole lives of jobs on the tests' AWS, in one process: the farm, its account, what runs on its instances, a person, and time."""
