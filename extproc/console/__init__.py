"""What approvers use over HTTP, in a process of its own."""
