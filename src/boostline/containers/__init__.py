"""What the services of the compose stack run before and beside the servers themselves."""
