"""What a rented instance runs: it learns what it is for, has the job's files, runs the agent, and powers itself off."""
