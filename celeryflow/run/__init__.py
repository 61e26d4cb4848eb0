"""What came of one execution of a workflow, while it goes on and after."""
