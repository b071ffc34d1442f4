"""Plain functions that wire rooms together, one module a job."""
