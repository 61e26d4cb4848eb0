"""A workflow as data: records, states, checks and the trace that makes them. No I/O."""
