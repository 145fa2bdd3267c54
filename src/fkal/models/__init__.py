"""Models by name, each an `nn.Module` whose layers can be tapped by module name. Import from the modules."""
