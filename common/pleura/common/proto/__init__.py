"""Protocol buffers of the channel between agent and trainer."""
