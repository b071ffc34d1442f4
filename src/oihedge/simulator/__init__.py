"""An embedded market with leverage cycles, its archive files, and a loopback server speaking the venues' REST."""
