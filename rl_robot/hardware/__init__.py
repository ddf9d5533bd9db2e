"""A physical arm before it is trusted: what stands in for one, and what is checked of one."""
