"""One file for each kind of adapter that changes layers: what it reads and writes, and what it adds to a weight."""
