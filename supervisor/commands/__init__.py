"""What can be asked of the farm. One command, one transaction; a command refused (`CommandError`) changed nothing."""
