"""ControlNets: the network, and its file."""
