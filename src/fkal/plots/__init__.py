"""How figures look: colours, markers, sizes, and curves."""
