"""The program `pvf`: command line, local stack, demo. It imports everything; nothing imports it."""
