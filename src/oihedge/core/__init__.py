"""Types, column names, errors, clock and protocols that every room shares; imports no other room."""
