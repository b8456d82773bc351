"""The commands: one file each, each calls one function of the library."""
